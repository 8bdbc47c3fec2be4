// The page of a run's report: sections of charts, tables and samples.

import { format } from '../chart.js';
import { chartIds, type Follow, numberCell, renderCharts, renderPage, renderTable, type Tile } from '../page.js';
import { renderSettings } from '../settings.js';
import { markup } from '../text.js';
import { duration, type Section, type Summary, type TimeShare } from './charts.js';
import { type Faults, type Sample, total } from './read.js';

export interface RunPage {
  title: string;
  tiles: readonly Tile[];
  /** Notes for the reader, such as that the run is empty or that lines could not be read. */
  notes: readonly string[];
  /** The run's warnings, in order. */
  warnings: readonly string[];
  /** The steps in which the conditions of the warnings held. */
  conditions: readonly { name: string; steps: number; first: number; last: number }[];
  faults: Faults;
  summaries: readonly Summary[];
  /** How charts were condensed, or undefined. */
  scaleNote?: string;
  sections: readonly Section[];
  timeShares: readonly TimeShare[];
  samples: readonly { title: string; samples: readonly Sample[] }[];
  /** How completions write answers, or undefined. */
  notation?: string;
  /** The configuration, by dotted paths. */
  config: readonly (readonly [path: string, value: string])[];
  /** For a page that follows the run. */
  follow?: Follow;
}

const sampleStyle = `
.warnings { margin: 0 0 12px; padding: 10px 14px 10px 30px; border-left: 4px solid var(--bad); background: var(--card); }
.warnings li { margin: 4px 0; overflow-wrap: anywhere; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 12px; }
.sample { padding: 10px 14px; min-width: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.sample header { display: flex; flex-wrap: wrap; gap: 4px 14px; color: var(--muted); font-size: 13px; }
.sample header b { color: var(--ink); }
.sample dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 12px; margin: 8px 0 0; }
.sample dt { color: var(--muted); font-size: 13px; }
.sample dd { margin: 0; }
.sample pre { margin: 0; max-height: 220px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.sample header .right { color: var(--good); }
.sample header .wrong { color: var(--bad); }
`;

export function renderRunPage(page: RunPage): string {
  const { title, tiles, notes, summaries, scaleNote, sections, timeShares, samples, config } = page;
  const nextId = chartIds();
  return renderPage({
    title,
    kind: 'training report',
    notes,
    tiles,
    parts: [
      renderWarnings(page),
      renderFaults(page.faults),
      summaries.length > 0 ? `<h2>Summary</h2>${renderSummaries(summaries)}` : '',
      scaleNote ? `<p class="muted">${markup(scaleNote)}</p>` : '',
      ...sections.map((section) => renderSection(section, nextId, section.title === 'Time' ? timeShares : [])),
      renderSamples(samples, page.notation),
      config.length > 0 ? `<h2>Configuration</h2>${renderSettings(config)}` : '',
    ],
    style: sampleStyle,
    follow: page.follow,
  });
}

function renderWarnings({ warnings, conditions }: RunPage): string {
  if (warnings.length === 0 && conditions.length === 0) return '';
  const items = warnings.map((text) => `<li>${markup(text)}</li>`);
  const rows = conditions.map(({ name, steps, first, last }) =>
    [
      `<td><code>health/${markup(name)}</code></td>`,
      ...[steps, first, last].map((value) => numberCell(format(value))),
    ].join(''),
  );
  return [
    '<h2>Warnings</h2>',
    items.length > 0 ? `<ul class="warnings">${items.join('')}</ul>` : '',
    rows.length > 0 ? renderTable(['Condition', 'Steps', 'First', 'Last'], rows) : '',
  ].join('\n');
}

const actions: Readonly<Record<string, string>> = {
  skip: 'The guard skipped the step.',
  rollback: 'The guard went back to the newest checkpoint.',
  halt: 'The guard ended the run.',
};

function renderFaults({ count, latest }: Faults): string {
  if (count === 0) return '';
  const items = latest.map(({ step, reason, action, file }) =>
    [
      `<li>step ${format(step)}: ${markup(shorten(reason, maxFaultCharacters))}. `,
      action !== undefined && Object.hasOwn(actions, action) ? `${actions[action]} ` : '',
      `Its completions are in <code>faults/${markup(file)}</code>.</li>`,
    ].join(''),
  );
  const left = count - latest.length;
  return [
    '<h2>Guard</h2>',
    `<ul class="warnings">${items.join('')}</ul>`,
    left > 0
      ? `<p class="muted">${left} earlier ${left === 1 ? 'file is' : 'files are'} in <code>faults/</code>.</p>`
      : '',
  ].join('\n');
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
    charts.length > 0 ? renderCharts(charts, nextId) : '',
    shares.length > 0 ? renderShares(shares) : '',
    missing.length > 0 ? `<p class="muted">${markup(left)}</p>` : '',
  ].join('\n');
}

function renderShares(shares: readonly TimeShare[]): string {
  const rows = shares.map(({ name, seconds, share }) =>
    [`<td>${markup(name)}</td>`, numberCell(duration(seconds)), numberCell(`${(100 * share).toFixed(1)} %`)].join(''),
  );
  return `<h3>Over the whole run</h3>${renderTable(['Part of a step', 'Time', 'Share'], rows)}`;
}

function renderSamples(groups: RunPage['samples'], notation: string | undefined): string {
  const shown = groups.filter(({ samples }) => samples.length > 0);
  if (shown.length === 0) return '';
  const parts = shown.map(
    ({ title, samples }) => `<h3>${markup(title)}</h3><div class="samples">${samples.map(renderSample).join('')}</div>`,
  );
  const note = notation === undefined ? '' : `<p class="muted">${markup(notation)}</p>`;
  return `<h2>Samples</h2>${note}${parts.join('\n')}`;
}

/** Maximum number of characters that are shown of a text, and of a fault's reason. */
const maxCharacters = 4000;
const maxFaultCharacters = 500;

function renderSample(sample: Sample): string {
  const { step, prompt, answer, completion, rewards, advantage, truncated, version } = sample;
  const verdicts = rewards.slice(0, 12).map(([name, value]) => {
    const mark = value !== null && value > 0 ? ' class="right"' : '';
    return `<span>${markup(name)} <b${mark}>${value === null ? 'none' : format(value)}</b></span>`;
  });
  const text = (label: string, content: string) => `<dt>${label}</dt><dd><pre>${markup(shorten(content))}</pre></dd>`;
  return [
    '<article class="sample"><header>',
    `<span>step <b>${format(step)}</b></span>`,
    version === null ? '' : `<span>weights after step <b>${format(version)}</b></span>`,
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

function shorten(text: string, most = maxCharacters): string {
  if (text.length <= most) return text;
  return `${text.slice(0, most)}… (${text.length - most} further characters)`;
}
