"""Helpers for tests of tasks."""

import asyncio


async def settled():
    """Let every task run until it waits for something that the test holds back."""
    for _ in range(20):
        await asyncio.sleep(0)
