// `groupgrad data`: shows what a file contains, and what a model would see of it.

import { statSync } from 'node:fs';
import { resolveTask } from '../config/load.js';
import {
  ColumnSummaries,
  type ColumnSummary,
  type Likeness,
  runLength,
  type Spread,
  spreadOf,
  TextIndex,
} from '../data/inspect.js';
import { formats, openRows, type RowFileOptions } from '../data/row-file.js';
import type { Example, Problems } from '../tasks/task.js';
import { HuggingFaceTokenizer } from '../text/hugging-face-tokenizer.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { choiceFlag, numberFlag, parse, UsageError } from './arguments.js';
import { type DataFlags, dataDescription, dataFlagNames, dataFlags, dataHelp } from './data-flags.js';

export const help = `groupgrad data <file> [flags]

  <file>             JSON lines, JSON, CSV or Parquet; shows its columns and, with the flags that define problems
                     (--prompt and --answer, or --benchmark), lengths, examples as a model sees them, duplicates
  --model DIR        a model folder: lengths in its tokens, examples rendered by its chat template
  --against FILE     another file with the same columns: problems in both; may be repeated
  --show N           how many examples and duplicates to show; default 2
  --json             JSON on standard output
${dataHelp}`;

/** Number of prompts encoded at once: bounds the memory for large files. */
const atOnce = 1024;

export async function data(args: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(args, ['a data file'], {
    model: { type: 'string' },
    against: { type: 'string', multiple: true },
    show: { type: 'string' },
    json: { type: 'boolean' },
    ...dataFlags,
  });
  const [path] = positionals;
  const show = numberFlag('show', flags.show, { min: 0, integer: true }) ?? 2;
  const hasProblems = dataFlagNames.some((name) => name !== 'format' && flags[name] !== undefined);
  for (const [flag, given] of [
    ['model', flags.model],
    ['against', flags.against],
  ] as const) {
    if (given !== undefined && !hasProblems) {
      throw new UsageError(`--${flag}: requires the columns of the problems: --prompt and --answer, or --benchmark`);
    }
  }
  const reading = readingFlags(flags);
  const columns = new ColumnSummaries();
  const rows = openRows(path, reading, (row) => columns.add(row));
  const tokenizer = flags.model === undefined ? undefined : await HuggingFaceTokenizer.load(flags.model);
  const problemsOf = (file: string) =>
    resolveTask('data', dataDescription(file, flags, Boolean(tokenizer?.chat)), 0) as Problems & { size: number };
  const problems = hasProblems ? problemsOf(path) : undefined;
  const found = {
    file: { path, format: rows.format, bytes: statSync(path).size, rows: rows.size, sha256: rows.sha256 },
    columns: columns.summaries(),
    ...(problems && (await inspectProblems(path, problems, tokenizer, show))),
    ...(problems &&
      flags.against && { overlap: flags.against.map((other) => overlapOf(problems, other, problemsOf(other), show)) }),
  };
  process.stdout.write(flags.json ? `${JSON.stringify(found, null, 1)}\n` : asText(found));
}

function readingFlags({ format }: DataFlags): RowFileOptions {
  return { ...(format !== undefined && { format: choiceFlag('format', format, formats) }) };
}

interface Seen {
  prompt: string;
  answer: string;
  /** Token ids, if there is a tokenizer. */
  tokens?: number;
}

interface Repeated {
  likeness: Likeness;
  where: string;
  other: string;
  prompt: string;
}

interface Inspected {
  problems: number;
  /** The unit of lengths. */
  unit: 'tokens' | 'characters';
  lengths: Record<'prompt' | 'answer' | 'solution', Spread | undefined>;
  examples: Seen[];
  duplicates: { same: number; alike: number; shown: Repeated[] };
}

/** Problems are numbered from 1, like rows. */
const placeOf = (path: string, index: number) => `${path}, problem ${index + 1}`;

async function inspectProblems(
  path: string,
  problems: Problems & { size: number },
  tokenizer: Tokenizer | undefined,
  show: number,
): Promise<Inspected> {
  const index = new TextIndex(false);
  const lengths: Record<'prompt' | 'answer' | 'solution', number[]> = { prompt: [], answer: [], solution: [] };
  const examples: Seen[] = [];
  const duplicates: Inspected['duplicates'] = { same: 0, alike: 0, shown: [] };
  for (let first = 0; first < problems.size; first += atOnce) {
    const some = Array.from({ length: Math.min(atOnce, problems.size - first) }, (_, i) => problems.example(first + i));
    const prompts = await seenPrompts(some, tokenizer);
    for (const field of ['answer', 'solution'] as const) {
      const texts = some.map((example) => example[field]);
      const encoded = await tokenizer?.encode(texts, { addSpecialTokens: false });
      lengths[field].push(...texts.map((text, i) => encoded?.[i].length ?? [...text].length));
    }
    for (const [i, example] of some.entries()) {
      const { text, tokens } = prompts[i];
      lengths.prompt.push(tokens ?? [...text].length);
      if (examples.length < show)
        examples.push({ prompt: text, answer: example.answer, ...(tokens !== undefined && { tokens }) });
      const where = placeOf(path, first + i);
      const twin = index.find(example.prompt);
      if (twin) {
        duplicates[twin.likeness === 'same' ? 'same' : 'alike']++;
        if (duplicates.shown.length < show)
          duplicates.shown.push({ likeness: twin.likeness, where, other: twin.where, prompt: example.prompt });
      } else index.add(example.prompt, where);
    }
  }
  const spreads = {
    prompt: spreadOf(lengths.prompt),
    answer: spreadOf(lengths.answer),
    solution: spreadOf(lengths.solution),
  };
  return { problems: problems.size, unit: tokenizer ? 'tokens' : 'characters', lengths: spreads, examples, duplicates };
}

/** The prompts as a policy gets them: with a tokenizer, its decoded ids, including special tokens. */
async function seenPrompts(
  examples: readonly Example[],
  tokenizer: Tokenizer | undefined,
): Promise<{ text: string; tokens?: number }[]> {
  const chats = examples.flatMap(({ messages }) => (messages ? [messages] : []));
  if (!tokenizer) {
    return examples.map(({ prompt, messages }) => ({
      text: messages ? messages.map(({ role, content }) => `${role}: ${String(content)}`).join('\n') : prompt,
    }));
  }
  if (chats.length > 0 && !tokenizer.chat)
    throw new UsageError('--chat: expected a model with a chat template, got one without');
  const rendered = chats.length > 0 ? [...(await tokenizer.chat!.render(chats))] : [];
  return Promise.all(
    examples.map(async ({ prompt, messages }) => {
      const [ids] = messages
        ? await tokenizer.encode([rendered.shift()!], { addSpecialTokens: false })
        : await tokenizer.encode([prompt]);
      return { text: tokenizer.decode(ids), tokens: ids.length };
    }),
  );
}

interface Overlap {
  file: string;
  problems: number;
  same: number;
  alike: number;
  sharing: number;
  shown: Repeated[];
}

function overlapOf(
  problems: Problems & { size: number },
  file: string,
  others: Problems & { size: number },
  show: number,
): Overlap {
  const index = new TextIndex(true);
  for (let i = 0; i < others.size; i++) index.add(others.example(i).prompt, placeOf(file, i));
  const overlap: Overlap = { file, problems: others.size, same: 0, alike: 0, sharing: 0, shown: [] };
  for (let i = 0; i < problems.size; i++) {
    const { prompt } = problems.example(i);
    const found = index.find(prompt);
    if (!found) continue;
    overlap[counts[found.likeness]]++;
    if (overlap.shown.length < show)
      overlap.shown.push({ likeness: found.likeness, where: `problem ${i + 1}`, other: found.where, prompt });
  }
  return overlap;
}

const counts = { same: 'same', alike: 'alike', 'shares words': 'sharing' } as const;

function asText(
  found: {
    file: { path: string; format: string; bytes: number; rows: number; sha256: string };
    columns: ColumnSummary[];
    overlap?: Overlap[];
  } & Partial<Inspected>,
): string {
  const { file, columns, problems, unit, lengths, examples = [], duplicates, overlap = [] } = found;
  const lines = [
    `${file.path}: ${file.rows} rows of ${file.format}, ${file.bytes} bytes, SHA-256 ${file.sha256}`,
    '',
    ...columns.flatMap(describeColumn),
  ];
  if (problems !== undefined && lengths && duplicates) {
    lines.push('', `${problems} problems`);
    for (const [field, spread] of Object.entries(lengths))
      if (spread) lines.push(`  ${field}: ${spreadText(spread, unit!)}`);
    for (const [i, { prompt, answer, tokens }] of examples.entries()) {
      lines.push(
        '',
        `Example ${i + 1}${tokens === undefined ? '' : `, ${tokens} tokens`}:`,
        indent(prompt),
        `  answer: ${JSON.stringify(answer)}`,
      );
    }
    lines.push(
      '',
      `Duplicates: ${duplicates.same} the same, ${duplicates.alike} except for case, punctuation and spaces`,
    );
    lines.push(...duplicates.shown.map(repeatedText));
  }
  for (const { file: other, problems: count, same, alike, sharing, shown } of overlap) {
    lines.push(
      '',
      `${other}: ${count} problems; ${same} of these problems are in it, ${alike} except for case, punctuation and spaces, ${sharing} share ${runLength} consecutive words`,
    );
    lines.push(...shown.map(repeatedText));
  }
  return `${lines.join('\n')}\n`;
}

function describeColumn({ name, types, missing, different, length, examples }: ColumnSummary): string[] {
  const facts = [
    Object.entries(types)
      .map(([type, count]) => `${count} ${type}`)
      .join(', ') || 'nothing',
    ...(missing > 0 ? [`${missing} missing`] : []),
    different === null ? 'more than 10,000 different' : `${different} different`,
    ...(length ? [spreadText(length, 'characters')] : []),
  ];
  return [`${name}: ${facts.join('; ')}`, ...examples.map((example) => `  ${example}`)];
}

function spreadText({ min, median, p95, max }: Spread, unit: string): string {
  return `${min} to ${max} ${unit}, median ${median}, 95 % at most ${p95}`;
}

function repeatedText({ likeness, where, other, prompt }: Repeated): string {
  const whole = [...prompt];
  const text = whole.length <= 100 ? prompt : `${whole.slice(0, 100).join('')}…`;
  return `  ${where} (${likeness}) ${other}: ${JSON.stringify(text)}`;
}

function indent(text: string): string {
  return text
    .split('\n')
    .map((line) => `  | ${line}`)
    .join('\n');
}
