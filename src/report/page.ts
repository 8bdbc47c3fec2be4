// The frame of a report: one self-contained HTML page that loads nothing else, with charts, tiles and tables; on a server it may
// also fetch itself again, to follow its subject. All text is escaped; should that ever fail, the content security policy
// allows only the page's own scripts and styles, by their hashes, and no other network access.

import { createHash } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { type Chart, chartStyle, drawChart, narrowChart } from './chart.js';
import { markup, visible } from './text.js';

export interface Tile {
  label: string;
  value: string;
  note?: string;
}

export interface Page {
  title: string;
  /** What kind of report this is: a few words below the title. */
  kind: string;
  /** What the reader should know first: that a run is empty, that lines could not be read. */
  notes?: readonly string[];
  tiles?: readonly Tile[];
  /** The content below, as markup; empty parts are skipped. */
  parts: readonly string[];
  /** A style sheet in addition to that of all reports. */
  style?: string;
  /** Makes the page update itself; without it, the page needs no network and may use none. */
  follow?: Follow;
}

/** How a page on a server learns that it has changed. */
export interface Follow {
  /** The path of a stream of server-sent events, each with the version of the page that the server would send now. */
  events: string;
  /** Of this page. */
  version: string;
}

const pageStyle = `
:root { color-scheme: light dark; --ink: #1c1917; --muted: #6b655f; --paper: #faf9f7; --card: #fff; --line: #e3e0dc; --good: #047857; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f5f5f4; --muted: #a8a29e; --paper: #171412; --card: #211d1a; --line: #38332f; --good: #34d399; --bad: #fb7185; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 28px 20px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 44px 0 12px; }
h3 { font-size: 15px; margin: 22px 0 8px; }
p { margin: 6px 0; }
.muted { color: var(--muted); }
.follow { position: sticky; top: 0; z-index: 2; margin: 0; padding: 4px 20px; border-bottom: 1px solid var(--line); background: var(--card); color: var(--muted); font-size: 13px; }
.follow.lost { color: var(--bad); }
.note { border-left: 3px solid var(--bad); padding: 4px 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 20px 0; }
.tile, figure, .table { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 14px; }
.tile b { display: block; font-size: 24px; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.tile span { display: block; color: var(--muted); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 14px; }
figure { position: relative; margin: 0; padding: 12px 12px 6px; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: var(--muted); font-size: 13px; padding: 2px 2px 6px; }
.glass { position: absolute; inset: 0; touch-action: pan-y; }
.rule { position: absolute; width: 1px; background: var(--muted); opacity: 0.6; pointer-events: none; }
.tip { position: absolute; z-index: 1; pointer-events: none; padding: 6px 9px; border: 1px solid var(--line); border-radius: 6px; background: var(--card); box-shadow: 0 2px 8px #0003; font-size: 12px; line-height: 1.4; white-space: pre; font-variant-numeric: tabular-nums; }
.table { overflow-x: auto; padding: 4px 14px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--muted); font-weight: 500; }
th, td { padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
td small { color: var(--muted); }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
td code { white-space: nowrap; }
.config td code { white-space: normal; overflow-wrap: anywhere; }
/* On a phone a row of a table is a block: its name, and below it each number with the name of its column. */
@media (max-width: 600px) {
  main { padding: 20px 12px 48px; }
  .follow { padding: 4px 12px; }
  h2 { margin-top: 32px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; }
  .tile { padding: 10px 12px; }
  .tile b { font-size: 20px; }
  thead { display: none; }
  tr { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 2px 12px; padding: 8px 0; border-bottom: 1px solid var(--line); }
  tbody tr:last-child { border-bottom: 0; }
  td, td.number { display: block; padding: 0; border: 0; text-align: left; white-space: normal; }
  td:first-child { grid-column: 1 / -1; font-weight: 600; }
  td[data-column]::before { content: attr(data-column); display: block; color: var(--muted); font-size: 12px; }
  td code { white-space: normal; overflow-wrap: anywhere; }
}
${chartStyle}
`;

/** Shows the values at the pointer; the rest of the page works without it. */
const pageScript = `
const activate = (figure) => {
  const svg = figure.querySelector('svg');
  const series = JSON.parse(figure.querySelector('script').textContent);
  const [left, top, right, bottom] = svg.dataset.plot.split(' ').map(Number);
  const [from, to] = svg.dataset.x.split(' ').map(Number);
  const [glass, rule, tip] = ['glass', 'rule', 'tip'].map((name) => {
    const element = document.createElement('div');
    element.className = name;
    element.hidden = name !== 'glass';
    return figure.appendChild(element);
  });
  const text = (value) => (value === null ? 'none' : Math.abs(value) >= 1e6 ? value.toExponential(3) : String(value));
  const nearest = (xs, x) => xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);
  glass.addEventListener('pointerleave', () => { rule.hidden = tip.hidden = true; });
  glass.addEventListener('pointermove', (event) => {
    const [box, frame] = [svg.getBoundingClientRect(), figure.getBoundingClientRect()];
    const unit = box.width / svg.viewBox.baseVal.width;
    const place = Math.min(right, Math.max(left, (event.clientX - box.left) / unit));
    const x = from + ((place - left) / (right - left)) * (to - from);
    const steps = series.map(({ x: xs }) => nearest(xs, x));
    const step = series.map(({ x: xs }, i) => xs[steps[i]]).reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a));
    tip.textContent = [svg.dataset.label + ' ' + step, ...series.flatMap(({ name, x: xs, y, low, high }, i) => {
      const at = steps[i];
      const band = low && low[at] !== null ? '  (' + text(low[at]) + ' to ' + text(high[at]) + ')' : '';
      return xs[at] === step || xs.length === 1 ? [name + '  ' + text(y[at]) + band] : [];
    })].join('\\n');
    rule.hidden = tip.hidden = false;
    const offset = box.left - frame.left;
    const across = offset + (left + ((step - from) / (to - from)) * (right - left)) * unit;
    rule.style.left = across + 'px';
    rule.style.top = box.top - frame.top + top * unit + 'px';
    rule.style.height = (bottom - top) * unit + 'px';
    tip.style.top = box.top - frame.top + top * unit + 'px';
    const after = across + 10;
    tip.style.left = (after + tip.offsetWidth < frame.width ? after : Math.max(0, across - 10 - tip.offsetWidth)) + 'px';
  });
};
const activateAll = (element) => element.querySelectorAll('figure').forEach(activate);
`;

const plainScript = `
activateAll(document);
`;

/**
 * Fetches the page again when the server announces another version, and replaces the parts that differ, so that the scroll position
 * does not change. A hidden page waits.
 */
const followScript = `
const main = document.querySelector('main');
const line = document.querySelector('.follow');
let shown = main.cloneNode(true);
let wanted = main.dataset.version;
let isBusy = false;
activateAll(main);
const say = (text, isLost) => {
  line.textContent = text;
  line.classList.toggle('lost', isLost);
  line.hidden = false;
};
const sayFollowing = () => say('Following this run. As of ' + new Date().toLocaleTimeString() + '.', false);
const show = (html) => {
  const next = new DOMParser().parseFromString(html, 'text/html').querySelector('main');
  const before = [...shown.children];
  const after = [...next.children];
  shown = next.cloneNode(true);
  after.forEach((element, i) => {
    const old = main.children[i];
    if (old && before[i].isEqualNode(element)) return;
    if (old) old.replaceWith(element);
    else main.append(element);
    if (element.matches('figure')) activate(element);
    activateAll(element);
  });
  while (main.children.length > after.length) main.lastElementChild.remove();
};
const refresh = async () => {
  if (isBusy || document.hidden) return;
  isBusy = true;
  try {
    while (shown.dataset.version !== wanted) {
      const asked = wanted;
      const response = await fetch(location.href, { cache: 'no-store' });
      const text = await response.text();
      if (!response.ok) return say(text, true);
      show(text);
      // The server may have a newer version by now; it announces that one separately.
      if (wanted === asked) wanted = shown.dataset.version;
    }
    sayFollowing();
  } catch {
    // The stream of events is lost too; when it is back, it sends the current version.
  } finally {
    isBusy = false;
  }
};
const events = new EventSource(line.dataset.events);
events.onmessage = ({ data }) => {
  wanted = data;
  refresh();
};
events.onerror = () => say('No connection to groupgrad watch. Trying again.', true);
document.addEventListener('visibilitychange', refresh);
`;

/** The page as HTML. */
export function renderPage({ title, kind, notes = [], tiles = [], parts, style = '', follow }: Page): string {
  const wholeStyle = pageStyle + style;
  const script = pageScript + (follow ? followScript : plainScript);
  const policy = [
    "default-src 'none'",
    `style-src '${hash(wholeStyle)}'`,
    `script-src '${hash(script)}'`,
    ...(follow ? ["connect-src 'self'"] : []),
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    `<title>${markup(title)} · groupgrad</title>`,
    `<style>${wholeStyle}</style>`,
    '</head>',
    '<body>',
    follow ? `<p class="follow" role="status" data-events="${markup(follow.events)}" hidden></p>` : '',
    follow ? `<main data-version="${markup(follow.version)}">` : '<main>',
    `<h1>${markup(title)}</h1>`,
    `<p class="muted">groupgrad ${markup(kind)}</p>`,
    ...notes.map((note) => `<p class="note">${markup(note)}</p>`),
    tiles.length > 0 ? `<div class="tiles">${tiles.map(renderTile).join('')}</div>` : '',
    ...parts,
    '</main>',
    `<script>${script}</script>`,
    '</body>',
    '</html>',
    '',
  ]
    .filter((part) => part !== '')
    .join('\n');
}

/** Writes a page atomically. */
export async function writePage(path: string, html: string): Promise<void> {
  const unfinished = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(unfinished, html);
    await rename(unfinished, path);
  } finally {
    await rm(unfinished, { force: true });
  }
}

function hash(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}

function renderTile({ label, value, note }: Tile): string {
  return `<div class="tile"><b>${markup(value)}</b>${markup(label)}${note ? `<span>${markup(note)}</span>` : ''}</div>`;
}

/** A right-aligned table cell for {@link renderTable}, with markup. */
export function numberCell(content: string): string {
  return `<td class="number">${content}</td>`;
}

/** A table with the first column as text and the others as numbers; `head` and the cells of `rows` are markup. */
export function renderTable(head: readonly string[], rows: readonly string[]): string {
  const heads = head.map((name, i) => `<th${i > 0 ? ' class="number"' : ''}>${name}</th>`).join('');
  const body = rows.map((row) => `<tr>${withColumns(row, head)}</tr>`).join('');
  return `<div class="table"><table><thead><tr>${heads}</tr></thead><tbody>${body}</tbody></table></div>`;
}

/** All cells except the first have the names of their columns, which a narrow page shows next to them. */
function withColumns(row: string, head: readonly string[]): string {
  let column = 0;
  return row.replace(/<td/g, (cell) => {
    const name = head[column++];
    return column === 1 || name === undefined ? cell : `${cell} data-column="${name}"`;
  });
}

/** Unique ids for the charts of a page. */
export function chartIds(): () => string {
  let charts = 0;
  return () => `chart-${++charts}`;
}

/** Charts side by side, as many as fit. */
export function renderCharts(charts: readonly Chart[], nextId: () => string): string {
  return `<div class="charts">${charts.map((chart) => renderChart(chart, nextId())).join('\n')}</div>`;
}

function renderChart(chart: Chart, id: string): string {
  const caption = chart.note ? `<figcaption>${markup(chart.note)}</figcaption>` : '';
  const data = `<script type="application/json">${chartData(chart)}</script>`;
  return `<figure>${drawChart(chart, id, narrowChart)}${caption}${data}</figure>`;
}

/** A chart's values for the page's script; '<' is escaped so that no text can close the element. */
function chartData({ series }: Chart): string {
  const round = (value: number | undefined) =>
    value === undefined || !Number.isFinite(value) ? null : Number(value.toPrecision(4));
  const data = series.map(({ name, kind, points }) => ({
    name: visible(name),
    x: points.map(({ x }) => x),
    y: points.map(({ y }) => round(y)),
    // The ends of an area are positions in a stack, which do not show its own value.
    ...(kind !== 'area' && points.some(({ low }) => low !== undefined)
      ? { low: points.map(({ low }) => round(low)), high: points.map(({ high }) => round(high)) }
      : {}),
  }));
  return JSON.stringify(data).replaceAll('<', '\\u003c');
}
