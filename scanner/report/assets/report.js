"use strict";
(() => {
  const MOST_CHOICES = 200, MOST_MEMBERS = 50;
  const SVG = "http://www.w3.org/2000/svg";
  const WORDS = { verbatim: "verbatim copy", template: "template copy", score: "score only" };
  const STATES = ["alarm", "new", "worse", "persisting", "better", "pending", "resolved", "muted"];
  const LEVELS = ["critical", "high", "medium", "low", "copied", "reproduced", "stored", "suspected", "not confirmed"];
  const FIELDS = ["q", "severity", "level", "match", "site", "shard", "sort", "size"];
  const byId = (id) => document.getElementById(id);
  const items = JSON.parse(byId("items").textContent);
  const gallery = byId("gallery"), detail = byId("detail");
  // groups: lists of findings of one family, as they are shown; shown: all of these in that order;
  // places: the group of each; starts: where a group begins in shown.
  let shown = [], groups = [], places = [], starts = [], page = 0, current = 0, at = 0, state = "", finding = "";

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
  const isIn = (item, name) => (name === "alarm" ? item.alarms : group(item) === name);
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
  // A mask from its COCO run lengths (column-major, background first) as closed loops around it,
  // and as the line between it and the rest, which the border of the picture is no part of. Inside
  // lies to the right of each step, so every edge is walked once.
  const borders = (runs, height, width) => {
    const inside = new Uint8Array(height * width), next = new Map(), wide = width + 1;
    let place = 0, loops = "", line = "";
    runs.forEach((length, i) => inside.fill(i % 2, place, (place += length)));
    const on = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside[x * height + y] === 1;
    const step = (x, y, direction) => {
      const key = y * wide + x;
      next.set(key, [...(next.get(key) ?? []), direction]);
    };
    for (let x = 0; x < width; x++) {
      for (let y = 0; y < height; y++) {
        if (!on(x, y)) continue;
        if (!on(x, y - 1)) step(x, y, 0);
        if (!on(x + 1, y)) step(x + 1, y, 1);
        if (!on(x, y + 1)) step(x + 1, y + 1, 2);
        if (!on(x - 1, y)) step(x, y + 1, 3);
      }
    }
    for (const [key, waiting] of next) {
      while (waiting.length) {
        let x = key % wide, y = Math.floor(key / wide), last = -1, isDown = false;
        loops += `M${x} ${y}`;
        do {
          const ways = next.get(y * wide + x);
          // Where two corners touch, a right turn keeps to the same part of the mask.
          const way = ways.splice(Math.max(0, ways.indexOf((last + 1) % 4)), 1)[0];
          const move = ["h1", "v1", "h-1", "v-1"][way];
          const isRim = [y === 0, x === width, y === height, x === 0][way];
          if (!isRim) line += (isDown ? "" : `M${x} ${y}`) + move;
          loops += move;
          isDown = !isRim;
          x += [1, 0, -1, 0][way];
          y += [0, 1, 0, -1][way];
          last = way;
        } while (y * wide + x !== key);
        loops += "Z";
      }
    }
    return { loops, line: line || loops };
  };
  // One line around a mask; what is not in it is dimmed.
  const outline = (runs, [height, width]) => {
    const svg = document.createElementNS(SVG, "svg"), { loops, line } = borders(runs, height, width);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const [css, shape] of [["veil", `M0 0h${width}v${height}h${-width}z${loops}`], ["line", line]]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", css);
      path.setAttribute("d", shape);
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
  const late = [];
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
    if (!block && waits) late.push([box, item]);
  };
  const pictures = (item) => {
    const box = make("div", "pictures");
    fill(box, item);
    return box;
  };

  const badges = (item) => {
    const box = make("div", "badges");
    if (item.alarms) box.append(make("span", "badge alarm", "ALARM"));
    if (item.state) box.append(make("span", "badge " + item.state, item.state));
    if (item.severity) box.append(make("span", "badge " + item.severity, item.severity));
    if (item.lv) box.append(make("span", "badge " + item.lv.replace(" ", "-"), item.lv));
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
  const row = (item, place) => {
    const line = make("li"), button = make("button", item.c ? "" : "withheld", said(item).slice(0, 160));
    button.type = "button";
    button.dir = "auto";
    button.dataset.at = place;
    button.append(make("small", "", `${WORDS[evidence(item)]}, p ${chance(item)}, Δs ${short(item.d)}, ${item.k}`));
    line.append(button);
    return line;
  };
  // The other findings of a card's family, some at a time.
  const family = (own, start) => {
    const rest = own.length - 1, list = make("ul", "members"), opener = make("button", "more-like", `and ${many(rest)} more like it`);
    let listed = 1;
    const add = () => {
      list.querySelector(".further")?.remove();
      const last = Math.min(own.length, listed + MOST_MEMBERS);
      for (; listed < last; listed++) list.append(row(own[listed], start + listed));
      if (listed === own.length) return;
      const line = make("li", "further"), button = make("button", "", `${many(own.length - listed)} more`);
      button.type = "button";
      button.addEventListener("click", () => {
        const next = listed - 1;
        add();
        list.children[next].querySelector("button").focus();
      });
      line.append(button);
      list.append(line);
    };
    list.hidden = true;
    opener.type = "button";
    opener.setAttribute("aria-expanded", "false");
    opener.addEventListener("click", () => {
      if (list.hidden && !list.children.length) add();
      list.hidden = !list.hidden;
      opener.setAttribute("aria-expanded", String(!list.hidden));
    });
    return [opener, list];
  };
  const card = (own, place) => {
    const item = own[0], node = make("li", "card" + (item.muted || item.state === "resolved" ? " quiet" : ""));
    const caption = make("button", "caption" + (item.c ? "" : " withheld"), said(item).slice(0, 300));
    caption.type = "button";
    caption.dir = "auto";
    caption.tabIndex = place === current ? 0 : -1;
    node.dataset.at = starts[place];
    node.append(badges(item), caption, make("p", "known", item.kn), pictures(item), listed(brief(item)));
    if (own.length > 1) node.append(...family(own, starts[place]));
    return node;
  };

  const size = () => Number(byId("size").value) || 24;
  const pages = () => Math.max(1, Math.ceil(groups.length / size()));
  const render = () => {
    const first = page * size();
    gallery.replaceChildren(...groups.slice(first, first + size()).map((own, i) => card(own, first + i)));
    byId("pager").hidden = pages() === 1;
    byId("where").textContent = `page ${many(page + 1)} of ${many(pages())}`;
    byId("back").disabled = page === 0;
    byId("next").disabled = page === pages() - 1;
  };
  const turn = (to) => {
    page = to;
    current = page * size();
    render();
    save("push");
    byId("findings").scrollIntoView();
  };
  const focusOn = (place) => {
    if (place < 0 || place >= groups.length) return;
    gallery.querySelector('.caption[tabindex="0"]')?.setAttribute("tabindex", "-1");
    current = place;
    if (Math.floor(place / size()) !== page) {
      page = Math.floor(place / size());
      render();
      save("replace");
    }
    const button = gallery.children[place - page * size()].querySelector(".caption");
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
  const filter = () => {
    const wanted = byId("q").value.trim().toLowerCase(), sort = byId("sort").value;
    const [level, known, match, place, shard] = ["severity", "level", "match", "site", "shard"].map((id) => byId(id).value);
    const found = items.filter((item) =>
      (!state || isIn(item, state)) && (!level || item.severity === level) && (!known || item.lv === known) && (!match || evidence(item) === match) &&
      (!place || item.h === place) && (!shard || item.s === shard) && (!wanted || text(item).includes(wanted)));
    if (sort) found.sort(orders[sort]);
    gather(found);
    page = current = 0;
    const inGroups = groups.length < found.length ? ` in ${many(groups.length)} groups` : "";
    byId("count").textContent = !items.length ? "Nothing is flagged."
      : found.length ? `${many(found.length)} of ${many(items.length)} findings${inGroups}` : "No finding answers to this: loosen the search.";
    for (const chip of byId("states").children) chip.setAttribute("aria-pressed", String(chip.dataset.state === state));
  };
  // The first finding that is shown of a family stands for it.
  const gather = (found) => {
    const own = new Map();
    if (byId("group").checked) {
      for (const item of found) {
        const name = item.f ?? item.at, there = own.get(name);
        if (there) there.push(item);
        else own.set(name, [item]);
      }
      groups = [...own.values()];
    } else groups = found.map((item) => [item]);
    shown = groups.length === found.length ? found : groups.flat();
    starts = new Int32Array(groups.length);
    places = new Int32Array(found.length);
    let start = 0;
    groups.forEach((group, place) => {
      starts[place] = start;
      places.fill(place, start, (start += group.length));
    });
  };

  // The view stands in the address, so that a link shows it again and Back undoes a step.
  const address = (withFinding) => {
    const words = new URLSearchParams();
    if (state) words.set("state", state);
    for (const id of FIELDS) if (byId(id).value.trim()) words.set(id, byId(id).value.trim());
    if (!byId("group").checked) words.set("group", "no");
    if (byId("h-linear")?.checked) words.set("heights", "linear");
    if (page) words.set("page", page + 1);
    if (withFinding && finding) words.set("finding", finding);
    return "#" + words;
  };
  let waits = 0, drawn = "", typing = "";
  const save = (how, kept = null) => {
    clearTimeout(waits);
    drawn = address(false);
    const target = address(true);
    if (target === (location.hash || "#")) return;
    history[how + "State"](how === "push" ? kept : history.state, "", target);
  };
  const show = (words) => {
    state = STATES.includes(words.get("state")) ? words.get("state") : "";
    for (const id of FIELDS) {
      byId(id).value = words.get(id) ?? "";
      if (byId(id).selectedIndex === -1) byId(id).value = "";
    }
    byId("group").checked = words.get("group") !== "no";
    if (byId("h-linear")) byId(words.get("heights") === "linear" ? "h-linear" : "h-log").checked = true;
    filter();
    page = Math.min(pages(), Math.max(1, Math.floor(Number(words.get("page"))) || 1)) - 1;
    current = page * size();
    render();
    drawn = address(false);
  };
  const restore = () => {
    const isPart = location.hash.length > 1 && !location.hash.includes("=");
    if (isPart && drawn) return;
    const words = new URLSearchParams(isPart ? "" : location.hash.slice(1)), wanted = words.get("finding") ?? "";
    words.delete("finding");
    if ("#" + words !== drawn) show(words);
    const place = /^[0-9a-f]{12,64}$/.test(wanted) ? shown.findIndex((item) => item.id.startsWith(wanted)) : -1;
    finding = "";
    if (place >= 0) look(place);
    else if (detail.open) detail.close();
  };
  const refresh = (event) => {
    filter();
    render();
    if (event?.target !== byId("q")) {
      typing = "";
      save("push");
      return;
    }
    // What is typed in one go is one step back.
    typing ||= "push";
    clearTimeout(waits);
    waits = setTimeout(() => {
      save(typing);
      typing = "replace";
    }, 200);
  };

  const look = (place, how = "replace") => {
    const item = shown[place];
    if (!item) return;
    at = place;
    byId("d-where").textContent = `${many(place + 1)} of ${many(shown.length)}`;
    byId("d-back").disabled = place === 0;
    byId("d-next").disabled = place === shown.length - 1;
    const heading = byId("d-caption");
    heading.textContent = said(item);
    const parts = [badges(item), make("p", "known", item.kn), pictures(item), listed(whole(item))];
    if (item.c !== null && item.l > item.c.length + 20) {
      parts.unshift(make("p", "hint", `The first ${many(item.c.length)} of ${many(item.l)} characters.`));
    }
    if (item.w?.length) parts.push(copies(item));
    byId("d-body").replaceChildren(...parts);
    finding = item.id.slice(0, 16);
    save(how, { opened: page });
    if (!detail.open) detail.showModal();
    detail.scrollTop = 0;
    heading.tabIndex = heading.scrollHeight > heading.clientHeight ? 0 : -1;
  };

  const choices = (id, count, label) => {
    const counts = new Map();
    for (const item of items) if (count(item)) counts.set(count(item), (counts.get(count(item)) ?? 0) + 1);
    const rank = (name) => LEVELS.indexOf(name);
    const sorted = [...counts].sort((a, b) => rank(a[0]) - rank(b[0]) || b[1] - a[1] || collator.compare(a[0], b[0]));
    for (const [name, number] of sorted.slice(0, MOST_CHOICES)) {
      byId(id).append(new Option(`${label(name)} (${many(number)})`, name));
    }
    byId(id).parentNode.hidden = sorted.length < 2;
  };
  items.forEach((item, place) => (item.at = place));
  choices("severity", (item) => item.severity, (name) => name);
  choices("level", (item) => item.lv, (name) => name);
  choices("match", evidence, (name) => WORDS[name]);
  choices("site", (item) => item.h, (name) => name);
  choices("shard", (item) => item.s, (name) => name.split("/").pop());

  const chips = ["", ...STATES.filter((name) => items.some((item) => isIn(item, name)))];
  byId("states").hidden = chips.length < 2;
  for (const name of chips) {
    const number = items.filter((item) => !name || isIn(item, name)).length;
    const chip = make("button", "chip " + name, `${name || "all"} ${many(number)}`);
    chip.type = "button";
    chip.dataset.state = name;
    chip.addEventListener("click", () => {
      state = name;
      refresh();
    });
    byId("states").append(chip);
  }

  byId("tools").hidden = document.querySelector(".keys").hidden = items.length === 0;
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("tools").addEventListener("input", refresh);
  byId("clear").addEventListener("click", () => {
    state = "";
    for (const id of FIELDS) byId(id).value = "";
    byId("group").checked = true;
    refresh();
  });
  for (const id of ["h-log", "h-linear"]) byId(id)?.addEventListener("change", () => save("push"));
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    link.addEventListener("click", (event) => {
      event.preventDefault(); // the address keeps the view
      const part = document.querySelector(link.getAttribute("href"));
      part.focus({ preventScroll: true });
      part.scrollIntoView();
    });
  }
  addEventListener("popstate", restore);
  byId("back").addEventListener("click", () => turn(page - 1));
  byId("next").addEventListener("click", () => turn(page + 1));
  gallery.addEventListener("click", (event) => {
    if (event.target.closest(".more-like, .further")) return;
    const node = event.target.closest("[data-at]");
    if (node && !String(getSelection())) look(Number(node.dataset.at), "push");
  });
  gallery.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !event.target.classList.contains("caption")) return;
    const tops = [...gallery.children].map((node) => node.offsetTop);
    const columns = Math.max(1, tops.filter((top) => top === tops[0]).length);
    const last = Math.min(groups.length, (page + 1) * size()) - 1;
    const steps = {
      ArrowRight: current + 1, ArrowLeft: current - 1, ArrowDown: current + columns,
      ArrowUp: current - columns, Home: page * size(), End: last,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    focusOn(steps[event.key]);
  });
  byId("d-back").addEventListener("click", () => look(at - 1));
  byId("d-next").addEventListener("click", () => look(at + 1));
  byId("d-close").addEventListener("click", () => detail.close());
  detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
  detail.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) look(at + step);
  });
  // Back closes what Enter opened; closing it otherwise goes the same way back.
  detail.addEventListener("close", () => {
    focusOn(places[at] ?? 0);
    const isBack = finding && history.state?.opened === page;
    finding = "";
    if (isBack) history.back();
    else save("replace");
  });
  for (const id of ["heat", "line"]) {
    byId(id).addEventListener("change", () => detail.classList.toggle("no-" + id, !byId(id).checked));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || detail.open || document.activeElement.matches("[type=search], select")) return;
    event.preventDefault();
    byId("q").focus();
  });
  const fillLate = () => {
    for (const [box, item] of late.splice(0)) if (box.isConnected) fill(box, item);
    if (document.readyState === "loading") setTimeout(fillLate, 60);
  };
  document.addEventListener("DOMContentLoaded", fillLate);
  restore();
  fillLate();
  performance.mark("interactive");
})();
