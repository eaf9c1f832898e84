// What a page does beyond its links and forms: parts replaced in place, keys, sliders, a live count.
"use strict";
(() => {
  const $ = (selector, inside = document) => inside.querySelector(selector);
  const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const root = document.documentElement;
  root.classList.add("scripted");

  // Light or dark: kept in a cookie, so that the next page is drawn right at once.
  const theme = $("#theme");
  const turn = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `memscan-theme=${root.dataset.theme};path=${document.body.dataset.root}/;max-age=31536000;samesite=strict`;
    $$(".map").forEach((figure) => figure.redraw?.());
  };
  if (theme) { theme.hidden = false; theme.addEventListener("click", turn); }
  const keys = $("#keys"), help = $("#help");
  if (help) { help.hidden = false; help.addEventListener("click", () => keys.showModal()); }

  // The table alone is fetched again; the address says what it shows.
  let latest = 0;
  const show = async (address, { push = true, quiet = false } = {}) => {
    const part = $("#part");
    if (!part) { location.href = address; return; }
    const mine = ++latest;
    if (!quiet) part.classList.add("busy");
    try {
      const answer = await fetch(address, { headers: { "x-part": "1" }, credentials: "same-origin" });
      const text = await answer.text();
      if (mine !== latest) return;
      if (!answer.ok) { said(answer.status === 400 ? text : "The server does not answer as usual: load the page again."); return; }
      const made = new DOMParser().parseFromString(text, "text/html").querySelector("#part");
      if (!made) { location.href = address; return; }
      part.replaceWith(made);
      if (push) history.pushState(null, "", address);
      const asked = new URL(address, location.href).searchParams;
      for (const name of ["after", "before"]) {
        const kept = $(`#mark input[name=${name}]`);
        if (kept) kept.value = asked.get(name) ?? "";
        asked.delete(name);
      }
      const kept = $("#mark input[name=filter]");
      if (kept) kept.value = asked.toString();
    } catch {
      said("The server does not answer. Is memscan serve still running?");
    } finally {
      $("#part")?.classList.remove("busy");
    }
  };
  const said = (text) => {
    let line = $("#said");
    if (!line) {
      line = document.createElement("p");
      line.id = "said"; line.className = "said"; line.setAttribute("role", "alert");
      $("#part").before(line);
    }
    line.textContent = text;
    setTimeout(() => line.remove(), 8000);
  };
  const filter = $("#filter");
  if (filter) {
    const address = () => {
      const asked = new URLSearchParams();
      for (const [name, value] of new FormData(filter)) if (value && !(name === "sort" && value === "worst")) asked.append(name, value);
      return `${filter.action.split("?")[0]}?${asked}`;
    };
    let waiting;
    $("#search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => show(address()), 180); });
    filter.addEventListener("change", (event) => {
      if (event.target.name === "run") { location.href = address(); return; }
      if (event.target.id !== "search") show(address());
    });
    filter.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(waiting); show(address()); });
    addEventListener("popstate", () => {
      const asked = new URLSearchParams(location.search);
      for (const field of filter.elements) if (field.name) field.value = asked.get(field.name) ?? (field.name === "sort" ? "worst" : field.name === "run" ? field.value : "");
      show(location.href, { push: false });
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("#part .pager a, #part thead a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const sort = new URL(link.href).searchParams;
      filter.elements.sort.value = sort.get("sort") ?? "worst";
      filter.elements.order.value = sort.get("order") ?? "";
      show(link.href).then(() => scrollTo({ top: Math.min(scrollY, $("#filter").offsetTop) }));
    });
  }

  // Rows: a click anywhere opens one.
  document.addEventListener("click", (event) => {
    const row = event.target.closest?.("tr[data-id]");
    if (row && !event.target.closest("a") && !getSelection().toString()) $("a.open", row).click();
  });
  const current = () => document.activeElement?.closest?.("tr[data-id]");
  const step = (by) => {
    const rows = $$("tr[data-id]"), at = rows.indexOf(current());
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
    if (next) { $("a.open", next).focus(); next.scrollIntoView({ block: "nearest" }); }
  };

  // Marks: who marks is remembered by this browser.
  const who = $$("input.who");
  who.forEach((field) => {
    field.value = localStorage.getItem("memscan-name") ?? "";
    field.addEventListener("change", () => localStorage.setItem("memscan-name", field.value));
  });
  const dialog = $("#mark");
  const mark = () => {
    const row = current();
    if (dialog instanceof HTMLDialogElement && row) {
      $("input[name=finding]", dialog).value = row.dataset.id;
      $("#mark-caption").textContent = $("a.open", row).textContent;
      dialog.showModal();
    } else $("#mark-form")?.querySelector("input[type=radio]").focus();
  };
  $$("[data-close]").forEach((button) => button.addEventListener("click", () => button.closest("dialog").close()));

  const follow = (selector) => () => $(selector)?.click();
  const deeds = {
    "/": () => $("#search, #sql")?.focus(), j: () => step(1), k: () => step(-1), m: mark, t: turn,
    n: follow("#next"), p: follow("#back"), u: follow("#up"), h: follow("#heat"), "?": () => keys?.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest?.("input, select, textarea");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && field?.id === "sql") { field.form.requestSubmit(); return; }
    if (event.key === "Escape" && field) { field.blur(); return; }
    if (field && field.type !== "range" && field.type !== "radio") return;
    if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    const deed = deeds[event.key];
    if (deed) { event.preventDefault(); deed(); }
  });

  // Maps: the mask is drawn from the map's own values, above the threshold that the slider is at.
  const outlined = (context, inside, height, width, side) => {
    const scale = [side.width / width, side.height / height];
    const is = (y, x) => y >= 0 && x >= 0 && y < height && x < width && inside[y * width + x] === 1;
    const path = new Path2D();
    for (let y = 0; y <= height; y++) for (let x = 0; x <= width; x++) {
      if (x < width && is(y, x) !== is(y - 1, x)) { path.moveTo(x * scale[0], y * scale[1]); path.lineTo((x + 1) * scale[0], y * scale[1]); }
      if (y < height && is(y, x) !== is(y, x - 1)) { path.moveTo(x * scale[0], y * scale[1]); path.lineTo(x * scale[0], (y + 1) * scale[1]); }
    }
    context.lineCap = "square";
    for (const [colour, line] of [["#141414", 5], ["#ffd60a", 2.5]]) { context.strokeStyle = colour; context.lineWidth = line * devicePixelRatio; context.stroke(path); }
  };
  const number = (value) => Math.abs(value) >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
  const logarithm = (value) => Math.sign(value) * Math.log1p(Math.abs(value));
  const load = async (figure) => {
    const answer = await fetch(figure.dataset.values, { credentials: "same-origin" });
    if (!answer.ok) return;
    const content = await answer.arrayBuffer(), head = new DataView(content);
    const height = head.getUint32(0, true), width = head.getUint32(4, true), deployed = head.getFloat64(8, true);
    const values = new Float32Array(content.slice(28));
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    if (Number.isFinite(deployed)) { low = Math.min(low, deployed); high = Math.max(high, deployed); }
    [low, high] = [logarithm(low), logarithm(high)];
    const box = $(".slider", figure), slider = $("input", box), output = $("output", box), canvas = $("canvas", figure);
    const place = (value) => high > low ? (logarithm(value) - low) / (high - low) : 0;
    const at = () => { const log = low + (high - low) * slider.value / 1000; return Math.sign(log) * Math.expm1(Math.abs(log)); };
    let isDeployed = Number.isFinite(deployed);
    const draw = () => {
      const level = isDeployed ? deployed : at(), inside = new Uint8Array(values.length);
      let area = 0;
      for (let i = 0; i < values.length; i++) area += inside[i] = values[i] > level ? 1 : 0;
      const side = canvas.getBoundingClientRect();
      canvas.width = Math.round(side.width * devicePixelRatio); canvas.height = Math.round(side.height * devicePixelRatio);
      outlined(canvas.getContext("2d"), inside, height, width, canvas);
      output.textContent = `above ${number(level)}: ${(100 * area / values.length).toFixed(0)}% of the picture`;
      slider.setAttribute("aria-valuetext", output.textContent);
    };
    figure.redraw = draw;
    slider.addEventListener("input", () => { isDeployed = false; draw(); });
    const button = $("button", box), mark = $(".deployed", box);
    if (isDeployed) {
      slider.value = 1000 * place(deployed);
      mark.style.setProperty("--at", place(deployed));
      button.setAttribute("aria-label", `back to the deployed threshold of ${number(deployed)}`);
      button.addEventListener("click", () => { isDeployed = true; slider.value = 1000 * place(deployed); draw(); });
    } else { mark.hidden = button.hidden = true; }
    box.hidden = false;
    draw();
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); load(entry.target); }
  }, { rootMargin: "300px" });
  $$(".map[data-values]").forEach((figure) => seen.observe(figure));
  const heat = $("#heat");
  if (heat) {
    heat.closest("p").hidden = false;
    heat.addEventListener("change", () => document.body.classList.toggle("no-heat", !heat.checked));
  }
  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => $$(".map").forEach((f) => f.redraw?.()), 100); });
  const gone = (image) => {
    if (!image.dataset.missing && !image.closest(".pic, .thumbs")) { image.hidden = true; return; }
    const word = document.createElement("span");
    word.className = "none"; word.textContent = image.closest(".pic") ? "" : image.dataset.missing ?? "not there";
    image.replaceWith(word);
  };
  $$("img").forEach((image) => image.complete && image.naturalWidth === 0 && image.loading !== "lazy" ? gone(image) : image.addEventListener("error", () => gone(image)));

  // A run that goes on: its counts every few seconds, and the table where nobody is in it.
  const watch = async () => {
    const live = $("#live");
    if (!live?.dataset.running) return;
    if (!document.hidden) try {
      const answer = await fetch(live.dataset.live, { credentials: "same-origin" });
      const made = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#live");
      if (made) {
        live.replaceWith(made);
        if (made.dataset.rows !== live.dataset.rows && !current() && !$("dialog[open]")) await show(location.href, { push: false, quiet: true });
      }
    } catch { /* it is asked again */ }
    setTimeout(watch, 3000);
  };
  setTimeout(watch, 3000);
})();
