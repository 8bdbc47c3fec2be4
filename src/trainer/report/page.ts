// The page of a report: sections of charts, tables and samples as one HTML text that needs nothing else and may load
// nothing else. Whatever comes from the run is escaped; should that ever fail, the content security policy allows no
// script and no style but the page's own, by their hashes, and no network.

import { createHash } from 'node:crypto';
import { type Chart, chartStyle, drawChart, format } from './chart.js';
import { duration, type Section, type Summary, type TimeShare } from './charts.js';
import { type Sample, total } from './read.js';
import { markup, visible } from './text.js';

export interface Tile {
  label: string;
  value: string;
  note?: string;
}

export interface Page {
  title: string;
  tiles: readonly Tile[];
  /** What the reader should know: that the run is empty, that lines could not be read. */
  notes: readonly string[];
  summaries: readonly Summary[];
  /** How charts were made smaller, or undefined. */
  scaleNote?: string;
  sections: readonly Section[];
  timeShares: readonly TimeShare[];
  samples: readonly { title: string; samples: readonly Sample[] }[];
  /** The configuration, by dotted paths. */
  config: readonly (readonly [path: string, value: string])[];
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
.note { border-left: 3px solid var(--bad); padding: 4px 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 20px 0; }
.tile, figure, .sample, .table { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 14px; }
.tile b { display: block; font-size: 24px; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tile span { display: block; color: var(--muted); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 14px; }
figure { position: relative; margin: 0; padding: 12px 12px 6px; }
figure svg { display: block; width: 100%; height: auto; }
.glass { position: absolute; inset: 0; touch-action: pan-y; }
.rule { position: absolute; width: 1px; background: var(--muted); opacity: 0.6; pointer-events: none; }
.tip { position: absolute; z-index: 1; pointer-events: none; padding: 6px 9px; border: 1px solid var(--line); border-radius: 6px; background: var(--card); box-shadow: 0 2px 8px #0003; font-size: 12px; line-height: 1.4; white-space: pre; font-variant-numeric: tabular-nums; }
.table { overflow-x: auto; padding: 4px 14px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--muted); font-weight: 500; }
th, td { padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; }
td small { color: var(--muted); }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
td code { white-space: nowrap; }
.config td code { white-space: normal; overflow-wrap: anywhere; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 12px; }
.sample { padding: 10px 14px; min-width: 0; }
.sample header { display: flex; flex-wrap: wrap; gap: 4px 14px; color: var(--muted); font-size: 13px; }
.sample header b { color: var(--ink); }
.sample dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 12px; margin: 8px 0 0; }
.sample dt { color: var(--muted); font-size: 13px; }
.sample dd { margin: 0; }
.sample pre { margin: 0; max-height: 220px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.sample header .right { color: var(--good); }
.sample header .wrong { color: var(--bad); }
${chartStyle}
`;

/** Shows the values at the pointer; without it the page lacks nothing else. */
const pageScript = `
for (const figure of document.querySelectorAll('figure')) {
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
    tip.textContent = ['step ' + step, ...series.flatMap(({ name, x: xs, y, low, high }, i) => {
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
}
`;

export function renderPage(page: Page): string {
  const { title, tiles, notes, summaries, scaleNote, sections, timeShares, samples, config } = page;
  const policy = [
    "default-src 'none'",
    `style-src '${hash(pageStyle)}'`,
    `script-src '${hash(pageScript)}'`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  let charts = 0;
  const nextId = () => `chart-${++charts}`;
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    `<title>${markup(title)} · groupgrad</title>`,
    `<style>${pageStyle}</style>`,
    '</head>',
    '<body>',
    '<main>',
    `<h1>${markup(title)}</h1>`,
    '<p class="muted">groupgrad training report</p>',
    ...notes.map((note) => `<p class="note">${markup(note)}</p>`),
    tiles.length > 0 ? `<div class="tiles">${tiles.map(renderTile).join('')}</div>` : '',
    summaries.length > 0 ? `<h2>Summary</h2>${renderSummaries(summaries)}` : '',
    scaleNote ? `<p class="muted">${markup(scaleNote)}</p>` : '',
    ...sections.map((section) => renderSection(section, nextId, section.title === 'Time' ? timeShares : [])),
    renderSamples(samples),
    config.length > 0 ? renderConfig(config) : '',
    '</main>',
    `<script>${pageScript}</script>`,
    '</body>',
    '</html>',
    '',
  ]
    .filter((part) => part !== '')
    .join('\n');
}

function hash(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}

function renderTile({ label, value, note }: Tile): string {
  return `<div class="tile"><b>${markup(value)}</b>${markup(label)}${note ? `<span>${markup(note)}</span>` : ''}</div>`;
}

function renderSummaries(summaries: readonly Summary[]): string {
  const at = ({ value, step }: { value: number; step: number }) => `${format(value)} <small>at ${step}</small>`;
  const rows = summaries.map(({ name, first, last, lowest, highest }) =>
    [
      `<td><code>${markup(name)}</code></td>`,
      ...[format(first), format(last), at(lowest), at(highest)].map(numberCell),
    ].join(''),
  );
  return renderTable(['Metric', 'First', 'Last', 'Lowest (step)', 'Highest (step)'], rows);
}

function numberCell(content: string): string {
  return `<td class="number">${content}</td>`;
}

/** A table with the first column as text and the others as numbers. */
function renderTable(head: readonly string[], rows: readonly string[]): string {
  const heads = head.map((name, i) => `<th${i > 0 ? ' class="number"' : ''}>${name}</th>`).join('');
  return `<div class="table"><table><thead><tr>${heads}</tr></thead><tbody>${rows.map((row) => `<tr>${row}</tr>`).join('')}</tbody></table></div>`;
}

function renderSection(
  { title, charts, missing }: Section,
  nextId: () => string,
  shares: readonly TimeShare[],
): string {
  const isOther = title === 'Other metrics';
  if (charts.length === 0 && (isOther || missing.length === 0)) return '';
  const left = isOther
    ? `Further metrics without a chart: ${missing.join(', ')}.`
    : `Not recorded: ${missing.join(', ')}.`;
  return [
    `<h2>${markup(title)}</h2>`,
    charts.length > 0
      ? `<div class="charts">${charts.map((chart) => renderChart(chart, nextId())).join('\n')}</div>`
      : '',
    shares.length > 0 ? renderShares(shares) : '',
    missing.length > 0 ? `<p class="muted">${markup(left)}</p>` : '',
  ].join('\n');
}

function renderChart(chart: Chart, id: string): string {
  return `<figure>${drawChart(chart, id)}<script type="application/json">${chartData(chart)}</script></figure>`;
}

/** A chart's values for the page's script; '<' is written so that no text can end the element. */
function chartData({ series }: Chart): string {
  const round = (value: number | undefined) =>
    value === undefined || !Number.isFinite(value) ? null : Number(value.toPrecision(4));
  const data = series.map(({ name, kind, points }) => ({
    name: visible(name),
    x: points.map(({ x }) => x),
    y: points.map(({ y }) => round(y)),
    // The ends of an area are places in a stack, which say nothing of its part.
    ...(kind !== 'area' && points.some(({ low }) => low !== undefined)
      ? { low: points.map(({ low }) => round(low)), high: points.map(({ high }) => round(high)) }
      : {}),
  }));
  return JSON.stringify(data).replaceAll('<', '\\u003c');
}

function renderShares(shares: readonly TimeShare[]): string {
  const rows = shares.map(({ name, seconds, share }) =>
    [`<td>${markup(name)}</td>`, numberCell(duration(seconds)), numberCell(`${(100 * share).toFixed(1)} %`)].join(''),
  );
  return `<h3>Over the whole run</h3>${renderTable(['Part of a step', 'Time', 'Share'], rows)}`;
}

function renderSamples(groups: Page['samples']): string {
  const shown = groups.filter(({ samples }) => samples.length > 0);
  if (shown.length === 0) return '';
  const parts = shown.map(
    ({ title, samples }) => `<h3>${markup(title)}</h3><div class="samples">${samples.map(renderSample).join('')}</div>`,
  );
  return `<h2>Samples</h2>${parts.join('\n')}`;
}

/** The most characters of a text that are shown. */
const mostCharacters = 4000;

function renderSample(sample: Sample): string {
  const { step, prompt, answer, completion, rewards, advantage, truncated } = sample;
  const verdicts = rewards.slice(0, 12).map(([name, value]) => {
    const mark = value !== null && value > 0 ? ' class="right"' : '';
    return `<span>${markup(name)} <b${mark}>${value === null ? 'none' : format(value)}</b></span>`;
  });
  const text = (label: string, content: string) => `<dt>${label}</dt><dd><pre>${markup(shorten(content))}</pre></dd>`;
  return [
    '<article class="sample"><header>',
    `<span>step <b>${format(step)}</b></span>`,
    ...verdicts,
    rewards.length > 1 ? `<span>sum <b>${format(total(sample))}</b></span>` : '',
    advantage === null ? '' : `<span>advantage <b>${format(advantage)}</b></span>`,
    truncated ? '<span class="wrong">truncated</span>' : '',
    '</header><dl>',
    text('prompt', prompt),
    text('completion', completion),
    answer === '' ? '' : text('answer', answer),
    '</dl></article>',
  ].join('');
}

function shorten(text: string): string {
  if (text.length <= mostCharacters) return text;
  return `${text.slice(0, mostCharacters)}… (${text.length - mostCharacters} further characters)`;
}

function renderConfig(config: Page['config']): string {
  const rows = config.map(
    ([path, value]) => `<tr><td><code>${markup(path)}</code></td><td><code>${markup(value)}</code></td></tr>`,
  );
  return `<h2>Configuration</h2><div class="table config"><table><tbody>${rows.join('')}</tbody></table></div>`;
}
