"use strict";
(() => {
  const STEP = 24;
  const byId = (id) => document.getElementById(id);
  const items = JSON.parse(byId("items").textContent);
  const gallery = byId("gallery"), more = byId("more"), zoom = byId("zoom");
  const SVG = "http://www.w3.org/2000/svg";
  let shown = [], position = 0;

  const make = (tag, css, text) => {
    const node = document.createElement(tag);
    if (css) node.className = css;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const short = (value) => {
    if (value === null || value === undefined) return "not known";
    if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
    return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(2) : String(+value.toPrecision(4));
  };
  const evidence = (item) => (item.m === "verbatim" || item.m === "template" ? item.m : "score");

  const image = (source, css) => {
    const node = make("img", css);
    node.src = source;
    node.alt = "";
    node.decoding = "async";
    return node;
  };
  const outline = (data) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${data.s[1]} ${data.s[0]}`);
    svg.setAttribute("preserveAspectRatio", "none");
    for (const css of ["edge", "line"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", data.o);
      path.setAttribute("class", css);
      svg.append(path);
    }
    return svg;
  };
  const enlarge = (frame) => {
    const large = make("div", frame.className);
    for (const child of frame.children) large.append(child.cloneNode(true));
    byId("zoomed").replaceChildren(large);
    zoom.showModal();
  };
  const framed = (title, layers, item) => {
    const figure = make("figure");
    if (layers.length) {
      const frame = make("button", "frame");
      frame.type = "button";
      frame.setAttribute("aria-label", `${title}, enlarge`);
      frame.append(...layers);
      layers[0].addEventListener("load", () => {
        if (layers[0].naturalWidth < 96) frame.classList.add("small");
      });
      frame.addEventListener("click", () => enlarge(frame));
      figure.append(frame);
    } else {
      figure.append(make("div", "frame none", item.i ? "not available" : "not embedded"));
    }
    figure.append(make("figcaption", "", title));
    return figure;
  };
  const pictures = (item) => {
    const block = byId("i-" + item.id);
    const data = block ? JSON.parse(block.textContent) : {};
    const box = make("div", "pictures");
    const marked = [];
    if (data.g) marked.push(image(data.g, "under"));
    if (data.h) marked.push(image(data.h, "map"));
    if (marked.length && data.o) marked.push(outline(data));
    box.append(
      framed("training image", data.t ? [image(data.t)] : [], item),
      framed("generated", data.g ? [image(data.g)] : [], item),
      framed(data.o ? "heatmap, mask" : "heatmap", marked, item),
    );
    return box;
  };
  const badges = (item) => {
    const box = make("div", "badges");
    const words = { verbatim: "verbatim copy", template: "template copy", score: "score only" };
    if (item.state) box.append(make("span", "badge " + item.state, item.state));
    if (item.severity) box.append(make("span", "badge " + item.severity, item.severity));
    box.append(make("span", "badge " + evidence(item), words[evidence(item)]));
    if (item.muted) box.append(make("span", "badge", "muted: " + item.muted));
    return box;
  };
  const copies = (item) => {
    const box = make("details"), list = make("ul");
    box.append(make("summary", "", "Images that copy it"), list);
    for (const [key, shard, match, error] of item.w)
      list.append(make("li", "", `${key} in ${shard}: ${match}, error ${short(error)}`));
    return box;
  };
  const card = (item) => {
    const node = make("article", "card");
    const withheld = item.c === null;
    const caption = make("h3", "caption" + (withheld ? " withheld" : ""), withheld ? "caption withheld" : item.c);
    caption.style.fontSize = "1rem";
    caption.dir = "auto";
    const numbers = make("dl", "numbers");
    const rows = [
      ["p-value", short(item.p)], ["score Δs", short(item.d)], ["copies in the corpus", item.n],
      ["mask", item.a === null ? "none" : Math.round(100 * item.a) + "% of the picture"],
      ["key", item.k], ["shard", item.s], ["hash", item.id.slice(0, 16)],
    ];
    if (item.reason) rows.unshift([item.state, item.reason]);
    if (item.e !== null) rows.splice(2, 0, ["error to training image", short(item.e)]);
    if (item.ei !== null) rows.splice(3, 0, ["inside, outside the mask", short(item.ei) + ", " + short(item.eo)]);
    if (item.v) rows.push(["images", item.v]);
    for (const [name, value] of rows) numbers.append(make("dt", "", name), make("dd", "", value));
    node.append(badges(item), caption);
    if (!withheld && item.c.length > 220) {
      const whole = make("button", "", "Whole caption");
      whole.addEventListener("click", () => { caption.classList.add("open"); whole.remove(); });
      node.append(whole);
    }
    node.append(pictures(item), numbers);
    if (item.w?.length) node.append(copies(item));
    return node;
  };

  const extend = () => {
    const next = shown.slice(position, position + STEP);
    position += next.length;
    gallery.append(...next.map(card));
    more.hidden = position >= shown.length;
  };
  const orders = {
    d: (a, b) => (b.d ?? -Infinity) - (a.d ?? -Infinity),
    n: (a, b) => b.n - a.n,
    c: (a, b) => (a.c ?? "").localeCompare(b.c ?? ""),
  };
  const refresh = () => {
    const wanted = byId("search").value.trim().toLowerCase();
    const match = byId("match").value, state = byId("state").value, sort = byId("sort").value;
    shown = items.filter((item) =>
      (!match || evidence(item) === match) && (!state || item.state === state) &&
      (!wanted || [item.c ?? "", item.k, item.s, item.id].some((t) => t.toLowerCase().includes(wanted))));
    if (sort) shown = [...shown].sort(orders[sort]);
    byId("count").textContent = items.length
      ? `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} findings` : "Nothing is flagged.";
    position = 0;
    gallery.replaceChildren();
    extend();
  };

  const states = [...new Set(items.map((item) => item.state).filter(Boolean))];
  byId("statebox").hidden = states.length === 0;
  for (const state of states) byId("state").append(new Option(state, state));
  byId("tools").hidden = items.length === 0;
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("tools").addEventListener("input", refresh);
  more.addEventListener("click", () => {
    const first = position;
    extend();
    gallery.children[first]?.querySelector("button")?.focus();
  });
  new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting) && !more.hidden) extend();
  }, { rootMargin: "600px" }).observe(more);
  refresh();
})();
