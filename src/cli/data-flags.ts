// Flags that describe a data set, shared by several commands.

import type { DataDescription } from '../config/define-config.js';
import { formats } from '../data/row-file.js';
import { benchmarkNames } from '../tasks/benchmarks.js';
import { graderNames } from '../verify/named.js';
import { choiceFlag, numberFlag, UsageError } from './arguments.js';

export const dataFlags = {
  benchmark: { type: 'string' },
  prompt: { type: 'string' },
  answer: { type: 'string' },
  solution: { type: 'string' },
  difficulty: { type: 'string' },
  template: { type: 'string' },
  system: { type: 'string' },
  chat: { type: 'string' },
  verify: { type: 'string' },
  format: { type: 'string' },
  'hold-out': { type: 'string' },
  part: { type: 'string' },
} as const;

export const dataFlagNames = Object.keys(dataFlags) as (keyof typeof dataFlags)[];

export const dataHelp = `  --benchmark NAME   columns, prompt and grader of ${benchmarkNames.join(', ')};
                     the flags below override them
  --prompt COLUMN    the problems: a name, or a path such as extra.question; default: prompt
  --answer COLUMN    the right answers; default: answer
  --solution COLUMN  worked solutions; default: solution, or the answer
  --difficulty COLUMN  a number, larger for harder problems; default: difficulty, or 0
  --template TEXT    applied to each problem: "{prompt} Put the final answer within \\boxed{}."
  --system TEXT      a system message before the problem
  --chat HOW         auto (default): problems are user messages if the model has a chat template; on; off
  --verify GRADER    ${graderNames.join(', ')}
  --format FORMAT    ${formats.join(', ')}; default: by the file's extension
  --hold-out SHARE   hold out this share of the problems, by their text
  --part PART        train or held-out: the part to use
`;

/** Flags as `parse` gives them. */
export type DataFlags = { readonly [K in keyof typeof dataFlags]?: string };

/** The description of a data set from flags. `hasChat`: whether the model that reads it has a chat template. */
export function dataDescription(data: string | readonly string[], flags: DataFlags, hasChat: boolean): DataDescription {
  const { prompt, answer, solution, difficulty, template, system } = flags;
  const chat = flags.chat === undefined ? 'auto' : choiceFlag('chat', flags.chat, ['auto', 'on', 'off']);
  if (system !== undefined && chat === 'off')
    throw new UsageError('--chat: expected on or auto with --system, got off');
  const benchmark =
    flags.benchmark === undefined ? undefined : choiceFlag('benchmark', flags.benchmark, benchmarkNames);
  const verify = flags.verify === undefined ? undefined : choiceFlag('verify', flags.verify, graderNames);
  const format = flags.format === undefined ? undefined : choiceFlag('format', flags.format, formats);
  const split = splitFlags(flags);
  const given = { benchmark, prompt, answer, solution, difficulty, template, system, verify, format, split };
  const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return {
    data,
    ...known,
    chat: chat === 'on' || system !== undefined || (chat === 'auto' && hasChat),
  } as DataDescription;
}

function splitFlags({ 'hold-out': share, part }: DataFlags): DataDescription['split'] {
  const holdOut = numberFlag('hold-out', share, { min: 0, max: 1 });
  if (part === undefined) {
    if (holdOut !== undefined) throw new UsageError('--hold-out: requires --part train or --part held-out');
    return undefined;
  }
  const chosen = choiceFlag('part', part, ['train', 'held-out']);
  return holdOut === undefined ? chosen : { part: chosen, holdOut };
}
