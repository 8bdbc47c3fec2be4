// The page of an evaluation: results, breakdown, comparison with another one, and problems with their completions, which can be
// filtered by right, wrong and truncated without a script.

import { numberCell, renderPage, renderTable, type Tile } from '../report/page.js';
import { flatten, renderSettings } from '../report/settings.js';
import { markup } from '../report/text.js';
import type { SavedEvaluation } from './folder.js';
import type { PairedComparison } from './paired.js';
import { type CompletionRecord, type EvaluationSummary, isRight, type ProblemRecord } from './records.js';
import { interval, percent, pText } from './text.js';

/** A comparison with another evaluation. */
export interface ShownComparison {
  /** Its title. */
  against: string;
  comparison: PairedComparison;
}

/** Maximum number of problems shown, because the page is read in a browser; evenly spaced over all problems. */
const maxProblems = 300;
/** Number of characters of a text that are shown; of a completion, its beginning and its end, where the answer is. */
const [beginning, ending] = [1500, 1500];

const style = `
.filters { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 12px 0; }
.filters label { cursor: pointer; }
.problem { margin: 12px 0; padding: 10px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.problem pre { margin: 4px 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 260px; overflow: auto; }
.problem header { display: flex; flex-wrap: wrap; gap: 4px 14px; color: var(--muted); font-size: 13px; }
.problem header b { color: var(--ink); }
.completion { border-top: 1px solid var(--line); margin-top: 8px; padding-top: 6px; }
.completion summary { cursor: pointer; font-size: 14px; overflow-wrap: anywhere; }
.right > summary b { color: var(--good); }
.wrong > summary b { color: var(--bad); }
#show-right:checked ~ .problems .completion:not(.right), #show-wrong:checked ~ .problems .completion:not(.wrong), #show-truncated:checked ~ .problems .completion:not(.truncated) { display: none; }
#show-right:checked ~ .problems .problem:not(.has-right), #show-wrong:checked ~ .problems .problem:not(.has-wrong), #show-truncated:checked ~ .problems .problem:not(.has-truncated) { display: none; }
.choose { position: absolute; opacity: 0; pointer-events: none; }
.choose:focus-visible + label { outline: 2px solid; }
#show-all:checked ~ .filters [for="show-all"], #show-right:checked ~ .filters [for="show-right"], #show-wrong:checked ~ .filters [for="show-wrong"], #show-truncated:checked ~ .filters [for="show-truncated"] { font-weight: 600; text-decoration: underline; }
`;

/** The page as an HTML text. */
export function renderEvaluation(
  { title, identity, problems }: SavedEvaluation,
  summary: EvaluationSummary,
  compared?: ShownComparison,
): string {
  return renderPage({
    title,
    kind: 'evaluation',
    notes: notesOf(summary),
    tiles: tiles(summary),
    parts: [
      estimateSection(summary),
      partSection(summary),
      compared ? comparisonSection(compared) : '',
      problemSection(problems),
      `<h2>What was evaluated</h2>${renderSettings(flatten(identity))}`,
    ],
    style,
  });
}

/** Truncated share from which the reader is warned, because truncated completions score 0. */
export const manyTruncated = 0.1;

export function notesOf({ truncated }: EvaluationSummary): string[] {
  if (truncated < manyTruncated) return [];
  return [`${percent(truncated)} % of the completions were cut off and score 0: allow more tokens`];
}

function tiles({ problems, samples, truncated, tokens, estimates }: EvaluationSummary): Tile[] {
  const [[name, first]] = Object.entries(estimates);
  return [
    { label: name, value: first.mean === null ? '–' : `${percent(first.mean)} %` },
    { label: 'Problems', value: String(problems) },
    { label: 'Completions per problem', value: String(samples) },
    { label: 'Cut off', value: `${percent(truncated)} %` },
    { label: 'Tokens per completion', value: tokens.toFixed(0) },
  ];
}

function estimateSection({ estimates }: EvaluationSummary): string {
  const rows = Object.entries(estimates).map(
    ([name, value]) => `<td>${markup(name)}</td>${numberCell(markup(interval(value)))}`,
  );
  return [
    '<h2>Results</h2>',
    '<p class="muted">Percent, with 95 % intervals by bootstrap over problems. avg@n: mean score of n completions; pass@k: of k completions at ' +
      'least one is right, estimated without bias; maj@n: the answer that most of n completions give is right.</p>',
    renderTable(['Quantity', 'Mean and interval'], rows),
  ].join('\n');
}

function partSection({ parts }: EvaluationSummary): string {
  if (parts.length === 0) return '';
  const names = Object.keys(parts[0].estimates);
  const rows = parts.map(({ column, value, problems, estimates }) =>
    [
      `<td>${markup(`${column} ${value}`)}</td>`,
      numberCell(String(problems)),
      ...names.map((name) => numberCell(markup(interval(estimates[name])))),
    ].join(''),
  );
  return `<h2>By part</h2>${renderTable(['Part', 'Problems', ...names.map(markup)], rows)}`;
}

function comparisonSection({ against, comparison }: ShownComparison): string {
  const { problems, onlyBefore, onlyAfter, quantities, better, worse, changes } = comparison;
  const rows = quantities.map(({ name, before, after, difference, p }) =>
    [
      `<td>${markup(name)}</td>`,
      numberCell(percent(before)),
      numberCell(percent(after)),
      numberCell(markup(interval(difference, true))),
      numberCell(markup(pText(p))),
    ].join(''),
  );
  const changed = changes.map(
    ({ prompt, before, after }) =>
      `<td>${markup(prompt.slice(0, 200))}</td>${numberCell(percent(before))}${numberCell(percent(after))}`,
  );
  const left =
    onlyBefore + onlyAfter > 0
      ? ` ${onlyBefore} problems are only in the other evaluation, ${onlyAfter} only in this one.`
      : '';
  return [
    `<h2>Against ${markup(against)}</h2>`,
    `<p class="muted">Paired over ${problems} problems that both have: ${better} are right more often, ${worse} less often.${left} ` +
      'Percent; differences with 95 % intervals by bootstrap over problems; p: sign-flip test of the differences.</p>',
    renderTable(['Quantity', 'Other', 'This', 'Difference', 'p'], rows),
    changed.length > 0 ? `<h3>Largest changes</h3>${renderTable(['Problem', 'Other', 'This'], changed)}` : '',
  ].join('\n');
}

const filters = [
  ['all', 'all'],
  ['right', 'right'],
  ['wrong', 'wrong'],
  ['truncated', 'cut off'],
] as const;

function problemSection(problems: readonly ProblemRecord[]): string {
  const count = Math.min(problems.length, maxProblems);
  const shown = Array.from({ length: count }, (_, i) => problems[Math.floor((i * problems.length) / count)]);
  const note =
    count < problems.length
      ? `<p class="muted">${count} of ${problems.length} problems, spread evenly; completions.jsonl contains all.</p>`
      : '';
  const inputs = filters.map(
    ([name], i) => `<input class="choose" type="radio" name="show" id="show-${name}"${i === 0 ? ' checked' : ''}>`,
  );
  const labels = filters.map(([name, label]) => `<label for="show-${name}">${label}</label>`);
  return [
    '<h2>Problems</h2>',
    note,
    '<div>',
    ...inputs,
    `<div class="filters">Completions: ${labels.join('')}</div>`,
    `<div class="problems">${shown.map(renderProblem).join('\n')}</div>`,
    '</div>',
  ].join('\n');
}

/** The categories of a completion. A truncated one is neither right nor wrong. */
function kindOf(record: CompletionRecord): 'right' | 'wrong' | 'truncated' {
  return record.truncated ? 'truncated' : isRight(record) ? 'right' : 'wrong';
}

function renderProblem({ problem, prompt, answer, difficulty, columns = {}, completions }: ProblemRecord): string {
  const kinds = [...new Set(completions.map(kindOf))].map((kind) => `has-${kind}`).join(' ');
  const right = completions.filter(isRight).length;
  const facts = Object.entries({ difficulty: String(difficulty), ...columns }).map(
    ([name, value]) => `<span>${markup(name)} <b>${markup(value)}</b></span>`,
  );
  return [
    `<article class="problem ${kinds}"><header><span>problem <b>${problem + 1}</b></span>`,
    `<span>right <b>${right} of ${completions.length}</b></span>`,
    ...facts,
    `</header><pre>${markup(shorten(prompt))}</pre>`,
    `<p class="muted">Answer: ${markup(shorten(answer))}</p>`,
    ...completions.map(renderCompletion),
    '</article>',
  ].join('');
}

function renderCompletion(record: CompletionRecord): string {
  const { completion, tokens, extracted, reason, score } = record;
  const kind = kindOf(record);
  const verdict = kind === 'truncated' ? 'cut off' : kind === 'wrong' && score > 0 ? `score ${score}` : kind;
  const read = extracted === undefined || extracted === null ? '' : `, read as ${markup(extracted)}`;
  const why = reason === undefined ? '' : `, ${markup(reason)}`;
  return [
    `<details class="completion ${kind}"><summary><b>${verdict}</b>${read}${why} <span class="muted">${tokens} tokens</span></summary>`,
    `<pre>${markup(shorten(completion))}</pre></details>`,
  ].join('');
}

function shorten(text: string): string {
  const left = text.length - beginning - ending;
  return left <= 0 ? text : `${text.slice(0, beginning)}\n… ${left} characters …\n${text.slice(-ending)}`;
}
