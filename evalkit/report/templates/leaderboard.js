"use strict";
// Sorting and filtering. Everything is in the page already: without this script it can be read as it stands.

function value(row, index) {
  const cell = row.cells[index];
  return cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
}

function sortBy(table, index, kind, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const order = (a, b) => {
    const x = value(a, index), y = value(b, index);
    if (kind === "text") return sign * x.localeCompare(y, undefined, { numeric: true });
    if (x === "" || y === "" || isNaN(x) || isNaN(y)) return (x === "" || isNaN(x)) - (y === "" || isNaN(y));
    return sign * (Number(x) - Number(y));
  };
  for (const body of table.tBodies) {  // own and published scores stay apart
    body.append(...[...body.rows].filter((row) => row.dataset.row).sort(order));
  }
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.sort === "text" || head.textContent.startsWith("Place") ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction);
      sortBy(table, index, head.dataset.sort, direction);
    });
  });
}

function makeFilters(form) {
  const apply = () => {
    const { benchmark, protocol, setting = "", text } = Object.fromEntries(new FormData(form));
    const needle = text.trim().toLowerCase();
    const inColumn = (e) =>
      (!benchmark || e.dataset.benchmark === benchmark) && (!protocol || e.dataset.protocol === protocol);
    document.querySelectorAll("[data-benchmark]").forEach((e) => { e.hidden = !inColumn(e); });
    const off = new Set(), rows = new Set();
    document.querySelectorAll("tr[data-row]").forEach((row) => {
      const fits = (!setting || row.dataset.settings.split("\n").includes(setting)) &&
        (!needle || row.dataset.text.toLowerCase().includes(needle));
      if (row.dataset.row !== "published") (fits ? rows : off).add(row.dataset.row);
      row.hidden = !fits || (row.dataset.benchmark !== undefined && !inColumn(row));
    });
    document.querySelectorAll("svg [data-row]").forEach((mark) => {
      mark.classList.toggle("off", off.has(mark.dataset.row));
    });
    const active = benchmark || protocol || setting || needle;
    document.getElementById("shown").value = active ? `${rows.size} of ${rows.size + off.size} models and settings` : "";
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("#filters").forEach(makeFilters);
