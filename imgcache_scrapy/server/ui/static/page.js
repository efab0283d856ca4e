"use strict";
// Everything works without this script; it adds endless scrolling, keys, zoom and dialogs.
const find = (selector, where = document) => where.querySelector(selector);
const all = (selector, where = document) => [...where.querySelectorAll(selector)];
const on = (target, kind, act, options) => target.addEventListener(kind, act, options);
const parse = (text) => new DOMParser().parseFromString(text, "text/html");
const root = document.documentElement;
root.classList.add("script");

const read = (store, name) => { try { return store.getItem(name); } catch { return null; } };
// A full storage, or one that is switched off, only costs comfort.
const write = (store, name, value) => { try { store.setItem(name, value); } catch { /* See above. */ } };

// The result of an act is said once, and is not part of the address.
const here = new URL(location.href);
const isResult = here.searchParams.has("done");
if (isResult) {
  here.searchParams.delete("done");
  history.replaceState(null, "", here);
}
// Back would show a page as it was before the act, or before signing out.
if (isResult || find("[name=token]")) write(localStorage, "acted", root.dataset.made);
on(window, "pageshow", ({ persisted }) => {
  const isBack = persisted || performance.getEntriesByType("navigation")[0].type === "back_forward";
  if (isBack && Number(read(localStorage, "acted")) > Number(root.dataset.made)) location.reload();
});

// What has no picture any more, because it was deleted or damaged meanwhile, gets no broken one.
const mend = (image) => {
  if (image.matches(".thumb")) return image.classList.add("none"), image.removeAttribute("src");
  const text = document.createElement("p");
  text.textContent = "This picture cannot be read. Open this page again to see why.";
  image.replaceWith(text);
};
on(document, "error", ({ target }) => target.matches?.(".thumb, .pane img") && mend(target), true);
for (const image of all(".thumb, .pane img")) if (image.complete && !image.naturalWidth && image.currentSrc) mend(image);

// Forms leave out their empty fields.
on(document, "submit", (event) => {
  if (event.target.method !== "get") return;
  const empty = all("input, select", event.target).filter((field) => field.name && !field.value);
  for (const field of empty) field.disabled = true;
  setTimeout(() => { for (const field of empty) field.disabled = false; });
});

// An act asks in a dialog instead of a page.
on(document, "submit", async (event) => {
  const { target: form, submitter } = event;
  // A double click acts once.
  if (form.matches(".question")) {
    if (form.dataset.busy) event.preventDefault();
    form.dataset.busy = "yes";
  }
  if (!form.matches("[data-ask]") || !submitter || submitter.name !== "act") return;
  event.preventDefault();
  // A double click asks once, too.
  if (form.dataset.busy) return;
  form.dataset.busy = "yes";
  const fields = new URLSearchParams(new FormData(form));
  fields.set(submitter.name, submitter.value);
  // From the page of a deleted picture, back to the list that led to it.
  const list = find(".picture") && submitter.value === "delete" && read(sessionStorage, "list");
  if (list) fields.set("back", list);
  let question;
  try {
    const answer = await fetch(form.action, { method: "POST", body: fields });
    question = find("#question", parse(await answer.text()));
  } catch { /* The browser says why there is no answer. */ }
  delete form.dataset.busy;
  if (!question) {
    // The session may be over: the browser opens what the service answers.
    delete form.dataset.ask;
    form.requestSubmit(submitter);
    form.dataset.ask = "";
    return;
  }
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "ask");
  dialog.append(document.importNode(question, true));
  document.body.append(dialog);
  on(dialog, "close", () => { dialog.remove(); submitter.focus(); });
  on(dialog, "click", (click) => {
    if (click.target === dialog || click.target.closest("[data-close]")) {
      click.preventDefault();
      dialog.close();
    }
  });
  dialog.showModal();
});

// Not navigator.clipboard, which needs https except on this machine.
on(document, "click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.createElement("textarea");
  text.value = button.dataset.copy;
  button.after(text);
  text.select();
  const label = button.textContent;
  button.textContent = document.execCommand("copy") ? "Copied" : "Not copied";
  text.remove();
  button.focus();
  setTimeout(() => { button.textContent = label; }, 1500);
});

// The grid: endless scrolling, the count of the selection, and its order for the picture page.
const selection = find("#selection");
if (selection) {
  // On a small screen, the fields would hide the pictures.
  if (matchMedia("(max-width: 48rem)").matches) find(".filters").open = false;
  const count = find(".acts .count");
  const show = () => {
    const chosen = all(".tiles :checked", selection).length;
    count.textContent = `${chosen} selected`;
  };
  on(selection, "change", show);
  // Shift selects, or clears, all from the last one to this one.
  let last;
  on(selection, "click", (event) => {
    const boxes = all(".tiles input", selection);
    if (event.target.matches("[data-all]")) {
      for (const box of boxes) box.checked = true;
      show();
    }
    if (!boxes.includes(event.target)) return;
    if (event.shiftKey && boxes.includes(last)) {
      const ends = [boxes.indexOf(last), boxes.indexOf(event.target)];
      const range = boxes.slice(Math.min(...ends), Math.max(...ends) + 1);
      for (const box of range) box.checked = event.target.checked;
      show();
    }
    last = event.target;
  });
  on(selection, "reset", () => setTimeout(show));
  on(window, "pageshow", show);
  const remember = () => {
    const names = all(".tiles input", selection).map((box) => box.value);
    write(sessionStorage, "grid", JSON.stringify(names));
  };
  remember();
  // The address says which part of the list is on the screen; an act leads back to it.
  const back = find("[name=back]", selection);
  const goBackTo = (path) => {
    back.value = path;
    write(sessionStorage, "list", path);
    history.replaceState(null, "", path);
  };
  goBackTo(back.value);
  const seen = new Set(all(".tiles input", selection).map((box) => box.value));
  const watcher = new IntersectionObserver(async ([entry]) => {
    const link = find(".more a[rel=next]");
    if (!entry.isIntersecting || !link || link.dataset.busy) return;
    link.dataset.busy = "yes";
    try {
      const answer = await fetch(link.href);
      if (!answer.ok) throw new Error(answer.statusText);
      const page = parse(await answer.text());
      const tiles = document.importNode(find(".tiles", page), true);
      for (const tile of [...tiles.children]) {
        const name = find("input", tile).value;
        if (seen.has(name)) tile.remove();
        seen.add(name);
      }
      all("ul.tiles", selection).at(-1).after(tiles);
      placer.observe(tiles);
      remember();
      const next = find(".more a[rel=next]", page);
      if (next) {
        link.href = next.getAttribute("href");
        delete link.dataset.busy;
        watcher.unobserve(link.parentNode);
        watcher.observe(link.parentNode);
      } else {
        link.parentNode.remove();
      }
    } catch {
      // The link stays, for a click.
      watcher.disconnect();
    }
  }, { rootMargin: "1200px" });
  const placer = new IntersectionObserver((entries) => {
    const entry = entries.find((each) => each.isIntersecting);
    if (entry) goBackTo(entry.target.dataset.page);
  }, { rootMargin: "-50% 0px -50% 0px" });
  for (const tiles of all("ul.tiles", selection)) placer.observe(tiles);
  const more = find(".more");
  if (more) watcher.observe(more);
  // Another size needs no new page: the same pictures stay on the screen.
  const withSize = (path, size) => {
    const url = new URL(path, location.href);
    url.searchParams.set("size", size);
    return url.pathname + url.search;
  };
  on(document, "click", (event) => {
    const chosen = event.target.closest("[data-size]");
    if (!chosen || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const { size } = chosen.dataset;
    const tiles = all(".tiles > li", selection);
    const first = tiles.find((tile) => tile.getBoundingClientRect().bottom > 80);
    for (const list of all("ul.tiles", selection)) {
      list.className = `tiles ${size}`;
      list.dataset.page = withSize(list.dataset.page, size);
    }
    for (const link of all("[data-size]")) {
      if (link === chosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    for (const link of all(".chips a, .more a")) link.href = withSize(link.href, size);
    for (const form of all("form[action='/']")) {
      const field = find("[name=size]", form) || document.createElement("input");
      Object.assign(field, { type: "hidden", name: "size", value: size });
      form.append(field);
    }
    goBackTo(withSize(back.value, size));
    if (scrollY) first?.scrollIntoView();
  });
}

// Zoom: all panes of a box move together.
const box = find("[data-zoom]");
const place = { zoom: 1, x: 0, y: 0 };
const zoomTo = (zoom, x = 0, y = 0) => {
  const next = Math.min(32, Math.max(1, zoom));
  const change = next / place.zoom;
  place.x = next === 1 ? 0 : x - (x - place.x) * change;
  place.y = next === 1 ? 0 : y - (y - place.y) * change;
  place.zoom = next;
  draw();
};
const draw = () => {
  root.classList.toggle("zoomed", place.zoom > 1);
  box.style.setProperty("--zoom", place.zoom);
  box.style.setProperty("--x", `${place.x}px`);
  box.style.setProperty("--y", `${place.y}px`);
  box.style.setProperty("--rendering", place.zoom > 4 ? "pixelated" : "auto");
};
const move = (x, y) => {
  if (place.zoom === 1) return false;
  place.x += x;
  place.y += y;
  draw();
  return true;
};
if (box) {
  on(box, "wheel", (event) => {
    const pane = event.target.closest(".pane");
    if (!pane || event.ctrlKey) return;
    event.preventDefault();
    const { left, top, width, height } = pane.getBoundingClientRect();
    const factor = Math.exp(-event.deltaY / 400);
    zoomTo(place.zoom * factor, event.clientX - left - width / 2, event.clientY - top - height / 2);
  }, { passive: false });
  on(box, "pointerdown", (event) => {
    if (event.button || place.zoom === 1) return;
    box.setPointerCapture(event.pointerId);
    box.classList.add("dragging");
  });
  on(box, "pointermove", (event) => {
    if (box.hasPointerCapture(event.pointerId)) move(event.movementX, event.movementY);
  });
  on(box, "pointerup", () => box.classList.remove("dragging"));
  on(box, "dragstart", (event) => event.preventDefault());
  on(box, "dblclick", () => zoomTo(place.zoom > 1 ? 1 : 3));
}

// Keys. Single keys can be switched off (WCAG 2.1.4).
const keys = find("#keys");
keys.checked = read(localStorage, "keys") !== "off";
on(keys, "change", () => write(localStorage, "keys", keys.checked ? "on" : "off"));

const columns = (tiles) => {
  const top = tiles[0].offsetTop;
  const row = tiles.findIndex((tile) => tile.offsetTop !== top);
  return row < 1 ? tiles.length : row;
};
const goTo = (name) => {
  const tiles = all(".tiles > li", selection);
  if (!tiles.length) return false;
  const current = tiles.indexOf(document.activeElement.closest(".tiles > li"));
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(tiles), ArrowDown: columns(tiles) };
  const wanted = current < 0 ? 0 : current + steps[name];
  if (!tiles[wanted]) return false;
  find("a", tiles[wanted]).focus();
  return true;
};
const resize = (step) => {
  const sizes = all(".sizes [data-size]");
  const current = sizes.findIndex((link) => link.hasAttribute("aria-current"));
  sizes[current + step]?.click();
  return true;
};
const neighbour = (step) => {
  const names = JSON.parse(read(sessionStorage, "grid")) || [];
  const current = names.indexOf(find(".picture").dataset.hash);
  const name = current < 0 ? undefined : names[current + step];
  if (name) location.assign(`/ui/images/${name}`);
  return name !== undefined;
};
const ARROWS = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
const act = (key) => {
  if (box) {
    if (key === "+" || key === "=") return zoomTo(place.zoom * 1.5), true;
    if (key === "-") return zoomTo(place.zoom / 1.5), true;
    if (key === "0") return zoomTo(1), true;
    if (ARROWS[key] && box.contains(document.activeElement) && move(...ARROWS[key])) return true;
  }
  const target = find(`[aria-keyshortcuts="${CSS.escape(key)}"]`);
  if (target) {
    if ("focus" in target.dataset) target.focus();
    else target.click();
    return true;
  }
  if (selection) {
    if (ARROWS[key]) return goTo(key);
    if (key === "+" || key === "=") return resize(1);
    if (key === "-") return resize(-1);
    const tile = document.activeElement.closest(".tiles > li");
    if (key === "x" && tile) return find("input", tile).click(), true;
  } else if (find(".picture")) {
    if (key === "ArrowLeft") return neighbour(-1);
    if (key === "ArrowRight") return neighbour(1);
  }
  return false;
};
on(document, "keydown", (event) => {
  // Enter selects, too: it would press the first button of the form.
  if (event.key === "Enter" && event.target.matches(".tiles [type=checkbox]")) {
    event.preventDefault();
    event.target.click();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || !keys.checked || find("dialog[open]")) return;
  if (event.target.closest("input:not([type=checkbox]), select, textarea")) return;
  if (act(event.key)) event.preventDefault();
});
