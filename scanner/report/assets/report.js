"use strict";
(() => {
  const MOST_CHOICES = 200;
  const SVG = "http://www.w3.org/2000/svg";
  const WORDS = { verbatim: "verbatim copy", template: "template copy", score: "score only" };
  const STATES = ["new", "worse", "persisting", "better", "pending", "resolved", "muted"];
  const byId = (id) => document.getElementById(id);
  const items = JSON.parse(byId("items").textContent);
  const gallery = byId("gallery"), detail = byId("detail");
  let shown = [], page = 0, current = 0, state = "";

  const make = (tag, css, text) => {
    const node = document.createElement(tag);
    if (css) node.className = css;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const many = (number) => number.toLocaleString("en");
  const short = (value) => {
    if (value === null || value === undefined) return "not known";
    if (Math.abs(value) >= 1000) return many(Math.round(value));
    return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(2) : String(+value.toPrecision(4));
  };
  const evidence = (item) => (item.m === "verbatim" || item.m === "template" ? item.m : "score");
  const group = (item) => (item.muted ? "muted" : item.state || "");
  const said = (item) => (item.c === null ? "caption withheld" : item.c || "no caption");

  // Pictures: their blocks stand behind this script, so that it need not wait for them.
  const image = (source, css, title) => {
    const node = make("img", css);
    node.decoding = "async";
    node.alt = title;
    node.addEventListener("load", () => {
      if (node.naturalWidth < 96) node.parentNode?.classList.add("small");
    });
    node.src = source;
    return node;
  };
  // The edges of a mask, from its COCO run lengths: column-major, background first.
  const edges = (runs, height, width) => {
    const inside = new Uint8Array(height * width);
    let at = 0, path = "";
    runs.forEach((length, i) => inside.fill(i % 2, at, (at += length)));
    const on = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside[x * height + y] === 1;
    for (let x = 0; x <= width; x++) {
      for (let y = 0; y <= height; y++) {
        if (on(x, y) !== on(x - 1, y)) path += `M${x} ${y}v1`;
        if (on(x, y) !== on(x, y - 1)) path += `M${x} ${y}h1`;
      }
    }
    return path;
  };
  const outline = (runs, [height, width]) => {
    const svg = document.createElementNS(SVG, "svg"), shape = edges(runs, height, width);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const css of ["edge", "line"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", shape);
      path.setAttribute("class", css);
      svg.append(path);
    }
    return svg;
  };
  const framed = (title, layers, why) => {
    const figure = make("figure");
    const frame = make("div", layers.length ? "frame" : "frame none", layers.length ? undefined : why);
    frame.append(...layers);
    figure.append(frame, make("figcaption", "", title));
    return figure;
  };
  const fill = (box, item) => {
    const block = byId("i-" + item.id), waits = document.readyState === "loading" && item.i;
    const data = block ? JSON.parse(block.textContent) : { o: [] };
    const why = !item.i ? "not embedded" : block ? "not available" : "loading";
    // Scored at its own image (q: the caption's hash), nothing was generated: the map is over that.
    const marked = [], base = item.q ? data.t : data.g, over = item.q ? "training image" : "generated picture";
    if (base) marked.push(image(base, "under", ""));
    if (data.h) marked.push(image(data.h, "map", `heatmap over the ${over}`));
    if (marked.length && data.o.length) marked.push(outline(data.o, data.s));
    box.replaceChildren(
      framed("training image", data.t ? [image(data.t, "", "training image")] : [], why),
      ...(item.q ? [] : [framed("generated", data.g ? [image(data.g, "", "generated picture")] : [], why)]),
      framed(data.o.length ? "heatmap, mask" : "heatmap", marked, why),
    );
    if (!block && waits) setTimeout(() => fill(box, item), 60);
  };
  const pictures = (item) => {
    const box = make("div", "pictures");
    fill(box, item);
    return box;
  };

  const badges = (item) => {
    const box = make("div", "badges");
    if (item.state) box.append(make("span", "badge " + item.state, item.state));
    if (item.severity) box.append(make("span", "badge " + item.severity, item.severity));
    box.append(make("span", "badge " + evidence(item), WORDS[evidence(item)]));
    if (item.muted) box.append(make("span", "badge muted", "muted"));
    return box;
  };
  const copies = (item) => {
    const box = make("details"), list = make("ul");
    box.append(make("summary", "", "Images that copy it"), list);
    for (const [key, shard, match, error] of item.w)
      list.append(make("li", "", `${key} in ${shard}: ${match}, error ${short(error)}`));
    return box;
  };
  const listed = (rows) => {
    const list = make("dl", "numbers");
    for (const [name, value] of rows) list.append(make("dt", "", name), make("dd", "", value));
    return list;
  };
  const chance = (item) => short(item.p) + (item.tail ? " (tail model)" : "");
  const mask = (item) => (item.a === null ? "none" : Math.round(100 * item.a) + "%");
  const brief = (item) => [
    ["p-value", chance(item)], ["score Δs", short(item.d)], ["copies", many(item.n)],
    ["mask", mask(item)], ["key", item.k],
  ];
  const whole = (item) => [
    ...(item.reason ? [[item.state, item.reason]] : []),
    ...(item.muted ? [["muted", item.muted]] : []),
    ["p-value", chance(item)], ["score Δs", short(item.d)],
    ...["error behind the match", "error inside the mask", "error outside the mask"]
      .map((name, i) => [name, item.e[i]]).filter((row) => row[1] !== null).map(([name, value]) => [name, short(value)]),
    ...(item.x ?? []), ["mask, of the picture", mask(item)], [`samples with this caption${item.q ? " and image" : ""}`, many(item.n)],
    ["key", item.k], ["shard", item.s], ...(item.u ? [["url", item.u]] : []), ["caption hash", item.q ?? item.id],
    ...(item.q ? [["finding", item.id]] : []),
    ...(item.v ? [["images", item.v]] : []),
    ...(item.rows ?? []),
  ];
  const card = (item, place) => {
    const node = make("li", "card" + (item.muted || item.state === "resolved" ? " quiet" : ""));
    const caption = make("button", "caption" + (item.c ? "" : " withheld"), said(item).slice(0, 300));
    caption.type = "button";
    caption.dir = "auto";
    caption.tabIndex = place === current ? 0 : -1;
    node.dataset.place = place;
    node.append(badges(item), caption, pictures(item), listed(brief(item)));
    return node;
  };

  const size = () => Number(byId("size").value);
  const render = () => {
    const first = page * size(), pages = Math.max(1, Math.ceil(shown.length / size()));
    gallery.replaceChildren(...shown.slice(first, first + size()).map((item, i) => card(item, first + i)));
    byId("pager").hidden = pages === 1;
    byId("where").textContent = `page ${many(page + 1)} of ${many(pages)}`;
    byId("back").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
  };
  const turn = (to) => {
    page = to;
    current = page * size();
    render();
    byId("findings").scrollIntoView();
  };
  const focusOn = (place) => {
    if (place < 0 || place >= shown.length) return;
    gallery.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    current = place;
    if (Math.floor(place / size()) !== page) {
      page = Math.floor(place / size());
      render();
    }
    const button = gallery.children[place - page * size()].querySelector("button");
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
    button.closest("li").scrollIntoView({ block: "nearest" });
  };

  const collator = new Intl.Collator("en");
  const highest = (name) => (a, b) => (b[name] ?? -Infinity) - (a[name] ?? -Infinity);
  const orders = {
    d: highest("d"), n: highest("n"), a: highest("a"),
    p: (a, b) => (a.p ?? Infinity) - (b.p ?? Infinity),
    c: (a, b) => collator.compare(a.c ?? "", b.c ?? ""),
    k: (a, b) => collator.compare(a.s, b.s) || collator.compare(a.k, b.k),
  };
  const texts = new Map();
  const text = (item) => {
    if (!texts.has(item)) texts.set(item, [item.c ?? "", item.k, item.s, item.u, item.id].join("\n").toLowerCase());
    return texts.get(item);
  };
  const refresh = () => {
    const wanted = byId("search").value.trim().toLowerCase(), sort = byId("sort").value;
    const [match, place, shard] = ["match", "site", "shard"].map((id) => byId(id).value);
    shown = items.filter((item) =>
      (!state || group(item) === state) && (!match || evidence(item) === match) &&
      (!place || item.h === place) && (!shard || item.s === shard) && (!wanted || text(item).includes(wanted)));
    if (sort) shown.sort(orders[sort]);
    page = current = 0;
    byId("count").textContent = !items.length ? "Nothing is flagged."
      : shown.length ? `${many(shown.length)} of ${many(items.length)} findings` : "No finding answers to this: loosen the search.";
    render();
  };

  const look = (place) => {
    const item = shown[place];
    if (!item) return;
    current = place;
    byId("d-where").textContent = `${many(place + 1)} of ${many(shown.length)}`;
    byId("d-back").disabled = place === 0;
    byId("d-next").disabled = place === shown.length - 1;
    byId("d-caption").textContent = said(item);
    const parts = [badges(item), pictures(item), listed(whole(item))];
    if (item.c !== null && item.l > item.c.length + 20) {
      parts.unshift(make("p", "hint", `The first ${many(item.c.length)} of ${many(item.l)} characters.`));
    }
    if (item.w?.length) parts.push(copies(item));
    byId("d-body").replaceChildren(...parts);
    if (!detail.open) detail.showModal();
    detail.scrollTop = 0;
  };

  const choices = (id, count, label) => {
    const counts = new Map();
    for (const item of items) if (count(item)) counts.set(count(item), (counts.get(count(item)) ?? 0) + 1);
    const sorted = [...counts].sort((a, b) => b[1] - a[1] || collator.compare(a[0], b[0]));
    for (const [name, number] of sorted.slice(0, MOST_CHOICES)) {
      byId(id).append(new Option(`${label(name)} (${many(number)})`, name));
    }
    byId(id).parentNode.hidden = sorted.length < 2;
  };
  choices("match", evidence, (name) => WORDS[name]);
  choices("site", (item) => item.h, (name) => name);
  choices("shard", (item) => item.s, (name) => name.split("/").pop());

  const chips = ["", ...STATES.filter((name) => items.some((item) => group(item) === name))];
  byId("states").hidden = chips.length < 2;
  for (const name of chips) {
    const number = items.filter((item) => !name || group(item) === name).length;
    const chip = make("button", "chip " + name, `${name || "all"} ${many(number)}`);
    chip.type = "button";
    chip.setAttribute("aria-pressed", String(name === state));
    chip.addEventListener("click", () => {
      state = name;
      for (const other of byId("states").children) other.setAttribute("aria-pressed", String(other === chip));
      refresh();
    });
    byId("states").append(chip);
  }

  byId("tools").hidden = document.querySelector(".keys").hidden = items.length === 0;
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("tools").addEventListener("input", refresh);
  byId("back").addEventListener("click", () => turn(page - 1));
  byId("next").addEventListener("click", () => turn(page + 1));
  gallery.addEventListener("click", (event) => {
    const node = event.target.closest("li");
    if (node && !String(getSelection())) look(Number(node.dataset.place));
  });
  gallery.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const tops = [...gallery.children].map((node) => node.offsetTop);
    const columns = Math.max(1, tops.filter((top) => top === tops[0]).length);
    const last = Math.min(shown.length, (page + 1) * size()) - 1;
    const steps = {
      ArrowRight: current + 1, ArrowLeft: current - 1, ArrowDown: current + columns,
      ArrowUp: current - columns, Home: page * size(), End: last,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    focusOn(steps[event.key]);
  });
  byId("d-back").addEventListener("click", () => look(current - 1));
  byId("d-next").addEventListener("click", () => look(current + 1));
  byId("d-close").addEventListener("click", () => detail.close());
  detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
  detail.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) look(current + step);
  });
  detail.addEventListener("close", () => focusOn(current));
  for (const id of ["heat", "line"]) {
    byId(id).addEventListener("change", () => detail.classList.toggle("no-" + id, !byId(id).checked));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || detail.open || /^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    byId("search").focus();
  });
  refresh();
  performance.mark("interactive");
})();
