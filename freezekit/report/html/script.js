"use strict";
(() => {
  const charts = new Map();

  const told = (element) => JSON.parse(element.textContent);

  async function drawAll() {
    const config = told(document.getElementById("config"));
    for (const source of document.querySelectorAll("script.spec")) {
      const place = document.getElementById(source.dataset.chart);
      try {
        const drawn = await window.vegaEmbed(place, told(source), {
          mode: "vega-lite",
          renderer: "svg",
          actions: false,
          config,
          tooltip: { theme: "own" },
        });
        charts.set(place.id, drawn.view);
      } catch (error) {
        place.textContent = "This chart could not be drawn; the table has the figures.";
        place.parentElement.removeAttribute("role");
        console.error(error);
      }
    }
    document.documentElement.dataset.drawn = charts.size;
  }

  function switchWidths(event) {
    const view = charts.get(event.currentTarget.dataset.chart);
    if (view) view.signal("by", event.target.value).runAsync();
  }

  function keyOf(row, column, kind) {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim();
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  }

  function compare(a, b, sign) {
    const gone = (key) => key === null || key === "" || key === "-";
    if (gone(a) || gone(b)) return gone(a) - gone(b); // what is missing comes last, either way
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  }

  function sort(button) {
    const head = button.closest("th");
    const table = button.closest("table");
    const down = head.getAttribute("aria-sort") === "ascending";
    const sign = down ? -1 : 1;
    const keyed = [...table.tBodies[0].rows].map((row) => ({
      row,
      key: keyOf(row, head.cellIndex, button.dataset.kind),
      number: Number(row.cells[0].dataset.v),
    }));
    keyed.sort((a, b) => compare(a.key, b.key, sign) || a.number - b.number);
    table.tBodies[0].append(...keyed.map((one) => one.row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const said = table.closest("section").querySelector(".said");
    said.textContent = `Sorted by ${button.textContent}, ${down ? "largest" : "least"} first.`;
  }

  function save(event) {
    const text = document.getElementById("result").textContent;
    const address = URL.createObjectURL(new Blob([text, "\n"], { type: "application/json" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = event.currentTarget.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  document.documentElement.classList.add("scripts");
  for (const button of document.querySelectorAll("table.sortable th button")) {
    button.addEventListener("click", () => sort(button));
  }
  for (const box of document.querySelectorAll(".raw-switch")) {
    const show = () =>
      document.getElementById(box.dataset.table).classList.toggle("with-raw", box.checked);
    box.addEventListener("change", show);
    show(); // a browser may remember the box
  }
  for (const choice of document.querySelectorAll("fieldset.switch")) {
    choice.addEventListener("change", switchWidths);
  }
  document.getElementById("save").addEventListener("click", save);
  if (window.vegaEmbed) drawAll();
})();
