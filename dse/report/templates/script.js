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
      const match = wanted.every((word) => text.includes(word));
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
  if (filter) filter.addEventListener("input", () => tables.forEach(show));
})();
