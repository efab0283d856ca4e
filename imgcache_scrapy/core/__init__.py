"""The words that every part uses: entries, errors, URLs, formats."""
