"use strict";
// Tables: a click on a heading sorts by its column, numbers by their full value.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };
    const rows = [...table.tBodies[0].rows].map(row => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);  // what is missing stays below
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}

// Map: Equal Earth (Šavrič et al. 2018), drawn cell by cell from the numbers in the page.
const MISSING = -32768, A = [1.340264, -0.081106, 0.000893, 0.003796], R3 = Math.sqrt(3);
// ColorBrewer RdBu, reversed: blue is a sink, red a source
const COLOURS = [[5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31]];

function forward(lon, lat) {
  const t = Math.asin(R3 / 2 * Math.sin(lat)), t2 = t * t, t6 = t2 * t2 * t2;
  const d = A[0] + 3 * A[1] * t2 + t6 * (7 * A[2] + 9 * A[3] * t2);
  return [2 * R3 * lon * Math.cos(t) / (3 * d), t * (A[0] + A[1] * t2 + t6 * (A[2] + A[3] * t2))];
}
function inverse(x, y) {
  let t = y;
  for (let i = 0; i < 12; i++) {
    const t2 = t * t, t6 = t2 * t2 * t2;
    const f = t * (A[0] + A[1] * t2 + t6 * (A[2] + A[3] * t2)) - y;
    const step = f / (A[0] + 3 * A[1] * t2 + t6 * (7 * A[2] + 9 * A[3] * t2));
    t -= step;
    if (Math.abs(step) < 1e-9) break;
  }
  const s = 2 * Math.sin(t) / R3, t2 = t * t, t6 = t2 * t2 * t2;
  if (Math.abs(s) > 1) return null;
  const d = A[0] + 3 * A[1] * t2 + t6 * (7 * A[2] + 9 * A[3] * t2);
  const lon = 3 * x * d / (2 * R3 * Math.cos(t));
  return Math.abs(lon) > Math.PI ? null : [lon, Math.asin(s)];
}
function colour(share) {  // −1 … 1
  const at = Math.min(Math.max((share + 1) / 2, 0), 1) * (COLOURS.length - 1), i = Math.min(Math.floor(at), COLOURS.length - 2);
  return COLOURS[i].map((c, k) => Math.round(c + (COLOURS[i + 1][k] - c) * (at - i)));
}
async function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const wide = Kind.BYTES_PER_ELEMENT, count = planes.length / wide;
  return new Kind(planes.map((_, i) => planes[(i % wide) * count + Math.floor(i / wide)]).buffer);
}
function place(edges, value) {  // the cell that holds a value, edges rising
  let low = 0, high = edges.length - 1;
  if (value < edges[0] || value >= edges[high]) return -1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (edges[middle] <= value) low = middle; else high = middle; }
  return low;
}

class FluxMap {
  constructor(data) {
    this.data = data;
    this.canvas = document.getElementById("map-canvas");
    this.west = forward(Math.PI, 0)[0];
    this.north = forward(0, Math.PI / 2)[1];
    this.south = forward(0, -60 * Math.PI / 180)[1];
    this.controls = Object.fromEntries(["model", "minus", "month", "member", "range"].map(k => [k, document.getElementById("map-" + k)]));
  }
  async start() {
    for (const layer of this.data.layers) {
      layer.numbers = await unpack(layer.values, Int16Array);
      const cells = await unpack(layer.cells, Int32Array), columns = layer.lon_edges.length - 1;
      layer.region = await unpack(layer.regions, Uint8Array);
      layer.index = new Int32Array((layer.lat_edges.length - 1) * columns).fill(-1);
      cells.forEach((cell, i) => { layer.index[cell] = i; });
      if (layer.lat_edges[0] < -60 && cells.some(cell => layer.lat_edges[Math.floor(cell / columns)] < -60))
        this.south = forward(0, -Math.PI / 2)[1];
      const run = this.data.runs.length > 1 ? `${this.data.runs[layer.run]} (${layer.run + 1}): ` : "";
      layer.name = run + layer.label;
    }
    const names = this.data.layers.map(l => l.name);
    this.fill("model", names.map((n, i) => [i, n]));
    this.fill("minus", [["", "nothing"], ...names.map((n, i) => [i, n])]);
    this.choose();
    this.chosen();
    for (const [key, control] of Object.entries(this.controls))
      control.addEventListener(key === "range" ? "input" : "change", () => { if (key === "model") this.choose(); this.chosen(); this.draw(); });
    this.canvas.addEventListener("pointermove", e => this.read(e));
    this.canvas.height = Math.round(this.canvas.width * (this.north - this.south) / (2 * this.west));
    this.pixels();
    for (const layer of this.data.layers) this.look_up(layer);
    this.draw();
  }
  look_up(layer) {  // the cell of every pixel, once a grid
    const known = this.data.layers.find(l => l.at && l.cells === layer.cells && String(l.lat_edges) === String(layer.lat_edges));
    layer.at = known ? known.at : Int32Array.from({ length: this.lonlat.length / 2 }, (_, i) =>
      Number.isNaN(this.lonlat[2 * i]) ? -1 : this.cell(layer, this.lonlat[2 * i], this.lonlat[2 * i + 1]));
  }
  fill(key, options) {
    const control = this.controls[key], before = control.value;
    control.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    if (options.some(([value]) => String(value) === before)) control.value = before;
  }
  choose() {
    const layer = this.layer();
    this.fill("month", layer.periods.map((p, i) => [i, p === "year" ? "mean of the year" : p]));
    this.fill("member", layer.shows.map((name, i) => [i, name]));
  }
  chosen() { this.member = Number(this.controls.member.value); this.period = Number(this.controls.month.value); }
  layer() { return this.data.layers[Number(this.controls.model.value)]; }
  minus() { return this.controls.minus.value === "" ? null : this.data.layers[Number(this.controls.minus.value)]; }
  pixels() {  // longitude and latitude of every pixel, once
    const { width, height } = this.canvas;
    this.lonlat = new Float32Array(2 * width * height).fill(NaN);
    for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
      const point = inverse(((column + .5) / width * 2 - 1) * this.west, this.north - (row + .5) / height * (this.north - this.south));
      if (point) this.lonlat.set(point.map(a => a * 180 / Math.PI), 2 * (row * width + column));
    }
  }
  cell(layer, lon, lat) {
    const first = layer.lon_edges[0], row = place(layer.lat_edges, lat);
    const column = place(layer.lon_edges, first + ((lon - first) % 360 + 360) % 360);
    return row < 0 || column < 0 ? -1 : layer.index[row * (layer.lon_edges.length - 1) + column];
  }
  number(layer, cell) {
    if (cell < 0) return NaN;
    const member = Math.min(this.member, layer.shows.length - 1);
    const period = Math.min(this.period, layer.periods.length - 1);
    const whole = layer.numbers[(member * layer.periods.length + period) * layer.size + cell];
    return whole === MISSING ? NaN : whole * layer.scale;
  }
  value(lon, lat) {
    const layer = this.layer(), other = this.minus();
    const value = this.number(layer, this.cell(layer, lon, lat));
    return other ? value - this.number(other, this.cell(other, lon, lat)) : value;
  }
  draw() {
    const context = this.canvas.getContext("2d"), { width, height } = this.canvas, image = context.createImageData(width, height);
    const limit = Math.max(...this.data.layers.map(l => l.limit)) * Number(this.controls.range.value) / 100 || 1;
    const layer = this.layer(), other = this.minus(), paint = new Uint32Array(image.data.buffer);
    const word = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0, nothing = word([196, 203, 208]);
    const shades = Array.from({ length: 513 }, (_, i) => word(colour(i / 256 - 1)));
    for (let i = 0; i < width * height; i++) {
      if (Number.isNaN(this.lonlat[2 * i])) continue;
      let value = this.number(layer, layer.at[i]);
      if (other) value -= this.number(other, other.at[i]);
      paint[i] = Number.isNaN(value) ? nothing : shades[Math.round((Math.min(Math.max(value / limit, -1), 1) + 1) * 256)];
    }
    context.putImageData(image, 0, 0);
    this.outline(context, width, height);
    this.bar(limit);
    this.canvas.setAttribute("aria-label", `Map of ${layer.name}${other ? " minus " + other.name : ""}, ${this.controls.month.selectedOptions[0].text}`);
    this.canvas.dataset.drawn = Number(this.canvas.dataset.drawn || 0) + 1;
  }
  outline(context, width, height) {
    context.strokeStyle = "rgba(40,40,40,.75)";
    context.lineWidth = .7;
    context.beginPath();
    for (const line of this.data.outlines) {
      let before = null;
      for (let i = 0; i < line.length; i += 2) {
        const lon = ((line[i] / 10 + 180) % 360 + 360) % 360 - 180;
        const [x, y] = forward(lon * Math.PI / 180, line[i + 1] * Math.PI / 1800);
        const at = [(x / this.west + 1) / 2 * width, (this.north - y) / (this.north - this.south) * height];
        if (before === null || Math.abs(lon - before) > 180) context.moveTo(...at); else context.lineTo(...at);
        before = lon;
      }
    }
    context.stroke();
  }
  bar(limit) {
    const canvas = document.getElementById("map-bar"), context = canvas.getContext("2d");
    for (let i = 0; i < canvas.width; i++) {
      context.fillStyle = `rgb(${colour(i / (canvas.width - 1) * 2 - 1)})`;
      context.fillRect(i, 0, 1, canvas.height);
    }
    document.getElementById("bar-low").textContent = `≤ −${limit.toPrecision(2)}`;
    document.getElementById("bar-high").textContent = `≥ ${limit.toPrecision(2)}`;
    document.getElementById("bar-units").textContent = this.layer().units;
  }
  read(event) {
    const box = this.canvas.getBoundingClientRect(), { width, height } = this.canvas;
    const column = Math.floor((event.clientX - box.left) / box.width * width), row = Math.floor((event.clientY - box.top) / box.height * height);
    const lon = this.lonlat[2 * (row * width + column)], lat = this.lonlat[2 * (row * width + column) + 1];
    const readout = document.getElementById("map-readout");
    if (lon === undefined || Number.isNaN(lon)) { readout.textContent = "Point at a cell to read it."; return; }
    const layer = this.layer(), cell = this.cell(layer, lon, lat), value = this.value(lon, lat);
    const where = `${Math.abs(lat).toFixed(1)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(1)}° ${lon < 0 ? "W" : "E"}`;
    const name = cell >= 0 && layer.region_names[layer.region[cell]], region = name ? ` (${name})` : "";
    readout.textContent = Number.isNaN(value) ? `${where}: no value` : `${where}${region}: ${value.toPrecision(3).replace("-", "−")} ${layer.units}`;
  }
}

const source = JSON.parse(document.getElementById("map-data").textContent);
(source ? new FluxMap(source).start() : Promise.resolve()).then(
  () => { document.documentElement.dataset.ready = "1"; },
  error => { document.documentElement.dataset.ready = "failed"; console.error(error); });
