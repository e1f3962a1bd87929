"use strict";
// Tables: click a heading to sort, filter by words, show all. Without JavaScript every row is there.
(function () {
  const tables = Array.from(document.querySelectorAll("table.sortable"));
  const filter = document.getElementById("filter");

  function words() {
    return filter ? filter.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
  }

  function show(table) {
    const wanted = table.closest("#configurations") ? words() : [];
    const limit = table.dataset.all ? Infinity : Number(table.dataset.limit);
    let met = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.cells[0].textContent.toLowerCase();
      const match = wanted.every((word) => text.includes(word)) && !row.classList.contains("off");
      if (match) met += 1;
      row.hidden = !match || met > limit;
    }
    table.button.hidden = met <= limit;
    table.button.textContent = "Show all " + met.toLocaleString("en");
  }

  function sort(table, column, kind) {
    const heads = table.tHead.rows[0].cells;
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => {
      const cell = row.cells[column];
      return kind === "text" ? cell.textContent : Number(cell.dataset.v.replace("inf", "Infinity"));
    };
    const order = kind === "text"
      ? (a, b) => a[0].localeCompare(b[0], "en", { numeric: true })
      : (a, b) => (a[0] === b[0] ? 0 : a[0] - b[0]);
    const unknown = (v) => v === Infinity;
    const keyed = Array.from(table.tBodies[0].rows, (row) => [value(row), row]);
    keyed.sort((a, b) => unknown(a[0]) - unknown(b[0]) || (up ? order(a, b) : order(b, a)));
    table.tBodies[0].append(...keyed.map((pair) => pair[1]));
    show(table);
  }

  for (const table of tables) {
    table.classList.add("live");
    table.button = document.createElement("button");
    table.button.type = "button";
    table.button.className = "all";
    table.button.addEventListener("click", () => { table.dataset.all = "1"; show(table); });
    table.parentNode.after(table.button);
    Array.from(table.tHead.rows[0].cells).forEach((head, i) => {
      head.tabIndex = 0;
      head.addEventListener("click", () => sort(table, i, head.dataset.sort));
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(table, i, head.dataset.sort); }
      });
    });
    show(table);
  }
  document.addEventListener("filtered", () => tables.forEach(show));
  if (filter) filter.addEventListener("input", () => tables.forEach(show));
})();

// Points and rows of one configuration: hover or focus tells its numbers, click or Enter highlights it everywhere.
(function () {
  const details = JSON.parse(document.getElementById("details").textContent);
  const tip = document.getElementById("tip");
  const marks = Array.from(document.querySelectorAll("[data-c]"));
  const picked = new Set();

  function tell(mark, x, y) {
    const one = details[Number(mark.dataset.c)];
    if (one) say(one.n, one.t, x, y);
  }

  function say(name, lines, x, y) {
    tip.replaceChildren();
    tip.append(Object.assign(document.createElement("b"), { textContent: name }));
    for (const line of lines) tip.append(Object.assign(document.createElement("div"), { textContent: line }));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
    tip.style.top = Math.max(4, y + 16 + box.height > innerHeight ? y - box.height - 12 : y + 16) + "px";
  }

  function pick(number) {
    if (!picked.delete(number)) picked.add(number);
    for (const mark of marks) mark.classList.toggle("picked", picked.has(mark.dataset.c));
  }

  for (const mark of marks) {
    if (mark.classList.contains("pt")) {
      const title = mark.querySelector("title");
      if (title) { mark.setAttribute("aria-label", title.textContent); title.remove(); }
      mark.addEventListener("mousemove", (event) => tell(mark, event.clientX, event.clientY));
      mark.addEventListener("mouseleave", () => { tip.hidden = true; });
      mark.addEventListener("blur", () => { tip.hidden = true; });
      mark.addEventListener("focus", () => {
        const box = mark.getBoundingClientRect();
        tell(mark, box.right, box.bottom);
      });
    }
    mark.addEventListener("click", () => pick(mark.dataset.c));
    mark.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(mark.dataset.c); }
    });
  }

  // Lines, bands and marks with a text of their own; thin ones are found a few pixels beside.
  for (const mark of document.querySelectorAll(".said")) {
    const title = mark.querySelector("title");
    const [name, ...lines] = title.textContent.split("\n");
    mark.setAttribute("aria-label", title.textContent);
    title.remove();
    mark.tell = (x, y) => say(name, lines, x, y);
    mark.addEventListener("focus", () => {
      const box = mark.getBoundingClientRect();
      mark.tell(box.right, box.bottom);
    });
    mark.addEventListener("blur", () => { tip.hidden = true; });
  }
  for (const figure of document.querySelectorAll("figure svg")) {
    if (!figure.querySelector(".said")) continue;
    figure.addEventListener("mousemove", (event) => {
      const { clientX: x, clientY: y } = event;
      const near = [[0, 0], [0, -3], [0, 3], [-3, 0], [3, 0]].map(([a, b]) => document.elementFromPoint(x + a, y + b));
      const mark = near.map((one) => one && one.closest(".said")).find(Boolean);
      if (mark) mark.tell(x, y); else tip.hidden = true;
    });
    figure.addEventListener("mouseleave", () => { tip.hidden = true; });
  }

  // Filters by option values: points that do not match fade, rows disappear.
  const box = document.querySelector(".options");
  if (box) {
    const choices = Array.from(box.querySelectorAll("select"));
    box.hidden = false;
    const apply = () => {
      const wanted = choices.filter((choice) => choice.value);
      for (const mark of marks) {
        const one = details[Number(mark.dataset.c)];
        const match = !one || wanted.every((choice) => one.o[choice.dataset.axis] === choice.value);
        mark.classList.toggle("off", !match);
      }
      document.dispatchEvent(new Event("filtered"));
    };
    for (const choice of choices) choice.addEventListener("change", apply);
    box.querySelector(".clear").addEventListener("click", () => {
      for (const choice of choices) choice.value = "";
      for (const number of Array.from(picked)) pick(number);
      apply();
    });
  }

  // Double-click zooms a figure in around the pointer, Escape out.
  for (const figure of document.querySelectorAll("figure svg")) {
    const whole = figure.getAttribute("viewBox");
    figure.addEventListener("dblclick", (event) => {
      const [x, y, width, height] = figure.getAttribute("viewBox").split(" ").map(Number);
      const at = figure.getBoundingClientRect();
      const across = (event.clientX - at.left) / at.width, down = (event.clientY - at.top) / at.height;
      figure.setAttribute("viewBox", [x + across * width / 2, y + down * height / 2, width / 2, height / 2].join(" "));
    });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") figure.setAttribute("viewBox", whole); });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
})();
