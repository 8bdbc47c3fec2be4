// The report of a run: one HTML page, made only from the files of the run folder.

import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { describe, typeError } from '../../base/check.js';
import {
  metrics as allMetrics,
  fillIn,
  findMetric,
  type Metric,
  type MetricName,
  recordedAs,
} from '../../base/metrics.js';
import { format } from '../chart.js';
import { type Follow, type Tile, writePage } from '../page.js';
import { flatten } from '../settings.js';
import { duration, metricSections, type Summary, summarize, timeSection } from './charts.js';
import { type Span, spanOf } from './curve.js';
import { type RunPage, renderRunPage } from './page.js';
import {
  readConfig,
  readFaults,
  readSamples,
  readTable,
  readWarnings,
  runFiles,
  type Samples,
  type Table,
} from './read.js';

/** Samples of each kind. */
const samplesOfAKind = 6;

/** Members of a family, such as evaluations, in the summary and among the tiles at most. */
const mostOfAFamily = 8;
const mostTiles = 3;

/**
 * The report of a run folder as self-contained HTML; with `follow`, a page that follows the run. It is made from config.json,
 * metrics.jsonl, timing.jsonl, samples.jsonl, warnings.jsonl and the files in faults, any of which may be missing, unfinished or
 * empty; nothing is written. The same files give the same HTML.
 * @throws TypeError if the folder does not exist; the file system's errors.
 */
export async function buildReport(runDir: string, follow?: Follow): Promise<string> {
  if (typeof runDir !== 'string') throw typeError('runDir', 'the path of a run folder', runDir);
  const isFolder = await stat(runDir).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) throw new TypeError(`runDir: expected a run folder, got ${describe(runDir)}, which is none`);
  const files = runFiles(runDir);
  const config = readConfig(files.config);
  const metrics = await readTable(files.metrics);
  const timing = await readTable(files.timing);
  const samples = await readSamples(files.samples, samplesOfAKind);
  const span = spanOf([metrics, timing]);
  const { shares, ...time } = timeSection(timing, span);
  const isEmpty = metrics.steps.length === 0;
  return renderRunPage({
    title: basename(resolve(runDir)),
    tiles: tiles(metrics, timing),
    warnings: await readWarnings(files.warnings),
    faults: await readFaults(files.faults),
    conditions: conditionSpans(metrics),
    notes: notes(metrics, timing, samples, config),
    summaries: summaryNames(metrics).flatMap((name) => summarize(metrics, name) ?? []),
    scaleNote: isEmpty ? undefined : scaleNote(span),
    sections: [...(isEmpty ? [] : metricSections(metrics, span)), ...(timing.steps.length > 0 ? [time] : [])],
    timeShares: shares,
    samples: [
      { title: `Latest of ${samples.count}`, samples: samples.latest },
      { title: 'Highest rewards', samples: samples.best },
      { title: 'Lowest rewards', samples: samples.worst },
    ],
    notation: typeof config === 'object' && typeof config.notation === 'string' ? config.notation : undefined,
    config: typeof config === 'object' ? flatten(config) : [],
    follow,
  });
}

/** Writes the report atomically to report.html in the run folder and returns its path. */
export async function writeReport(runDir: string): Promise<string> {
  const html = await buildReport(runDir);
  const { report } = runFiles(runDir);
  await writePage(report, html);
  return report;
}

/** The steps in which each health condition held, by its name. */
function conditionSpans({ steps, columns }: Table): RunPage['conditions'] {
  return [...columns].flatMap(([metric, column]) => {
    const name = findMetric(metric)?.values.condition;
    const held = steps.filter((_, row) => column[row] === 1);
    return name === undefined || held.length === 0
      ? []
      : [{ name, steps: held.length, first: held[0], last: held[held.length - 1] }];
  });
}

function notes(metrics: Table, timing: Table, samples: Samples, config: ReturnType<typeof readConfig>): string[] {
  const all: string[] = [];
  if (metrics.steps.length === 0) all.push('No step has been recorded yet.');
  if (config === undefined) all.push('There is no config.json.');
  if (typeof config === 'string') all.push(`config.json could not be read: ${config}`);
  for (const [name, { badLines }] of [
    ['metrics.jsonl', metrics],
    ['timing.jsonl', timing],
    ['samples.jsonl', samples],
  ] as const) {
    if (badLines > 0) all.push(`${badLines} ${badLines === 1 ? 'line' : 'lines'} of ${name} could not be read.`);
  }
  const leftOut = metrics.leftOut + timing.leftOut;
  if (leftOut > 0) all.push(`${leftOut} or more metrics are left out: the files name too many.`);
  return all;
}

function scaleNote({ stepsPerPoint }: Span): string | undefined {
  if (stepsPerPoint === 1) return undefined;
  return `In the charts each point is the mean of ${stepsPerPoint} steps, and the band around it runs from the smallest to the largest value of these steps. Numbers in tables are those of single steps.`;
}

/** The metrics of a summary: of a family that has many members, the first. */
function summaryNames(table: Table): string[] {
  return withAttribute('summary').flatMap((name) => recordedAs(name, table.columns.keys()).slice(0, mostOfAFamily));
}

/** The metrics for which the table states this, in its order. */
function withAttribute(attribute: 'summary' | 'tile'): MetricName[] {
  const entries = Object.entries(allMetrics) as [MetricName, Metric][];
  return entries.filter(([, metric]) => metric[attribute] !== undefined).map(([name]) => name);
}

function tiles(metrics: Table, timing: Table): Tile[] {
  const { steps } = metrics;
  if (steps.length === 0) return [];
  const all: Tile[] = [{ label: 'Steps', value: String(steps[steps.length - 1]) }];
  const progress = (label: string, summary: Summary | undefined) => {
    if (!summary) return;
    const { first, last, highest } = summary;
    const note = `from ${format(first)}; best ${format(highest.value)} at step ${highest.step}`;
    all.push({ label, value: format(last), note });
  };
  const recorded = (name: MetricName) => recordedAs(name, metrics.columns.keys()).slice(0, mostTiles);
  for (const name of withAttribute('tile').flatMap(recorded)) {
    const { metric, values } = findMetric(name)!;
    progress(fillIn(metric.tile!, values), summarize(metrics, name));
  }
  const time = summarize(timing, 'time' satisfies MetricName);
  if (time) all.push({ label: 'Time', value: duration(time.last) });
  const speed = summarize(timing, 'tokens_per_second' satisfies MetricName);
  if (speed)
    all.push({ label: 'Tokens per second', value: format(speed.last), note: `highest ${format(speed.highest.value)}` });
  return all;
}

/**
 * A text that changes whenever the files that a report is made from have changed. It is made of their sizes and times, without
 * reading them. A file that is missing counts too.
 */
export async function reportVersion(runDir: string): Promise<string> {
  const { report: _, ...files } = runFiles(runDir);
  const seen = await Promise.all(
    Object.values(files).map(async (path) => {
      const found = await stat(path).catch(() => undefined);
      return found ? `${found.ino} ${found.size} ${found.mtimeMs}` : '-';
    }),
  );
  return createHash('sha256').update(seen.join('\n')).digest('hex').slice(0, 16);
}
