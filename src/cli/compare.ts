// `groupgrad compare`: several configurations over several seeds, paired.

import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { usualGrace } from '../base/interruption.js';
import { Board } from '../compare/board.js';
import { adoptPlan, comparisonFiles, isFinished, isStarted } from '../compare/folder.js';
import { type Plan, resolvePlan } from '../compare/plan.js';
import { writeComparison } from '../compare/report.js';
import { summaryTable } from '../compare/table.js';
import { type RunName, runAll, type WorkersOptions } from '../compare/workers.js';
import { checkConfigFile, loadChanged, setAll } from '../config/load.js';
import { lockRun, type RunLock } from '../run/run-lock.js';
import { createProgress } from '../train/progress.js';
import { exitCodes, listenForStop } from '../train/signals.js';
import { numberFlag, parse } from './arguments.js';
import { asUsageErrors, changesAsUsageErrors } from './usage-errors.js';

export const help = `groupgrad compare <file> [flags]

  <file>             a comparison (.ts, .js, .json), see docs/compare.md
  --out DIR          the comparison's folder; default: runs/<name>
  --jobs N           processes at a time; default: the number of cores
  --set PATH=VALUE   change the comparison: --set seeds=5 --set base.steps=10; may be repeated. Name a model and files:
                     --set base.policy.model=DIR --set base.train.data=FILE --set benchmarks.math500=FILE
  --take-over        take the folder and its runs from a comparison that is still running, which then stops
  --grace SECONDS    how long running steps may take to finish after a signal, before they are discarded; default: ${usualGrace}
  --dry-run          check the comparison and list its runs; run nothing
  --json             the summary as JSON on standard output, progress on standard error

  The same command again resumes: finished runs are not repeated. Writes comparison.json, report.html and, of
  benchmarks, benchmarks.md. Table 1 of the HA-DW paper: groupgrad compare examples/paper/math.ts, whose first lines
  say how.
`;

export async function compare(args: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(args, ['a comparison file'], {
    out: { type: 'string' },
    jobs: { type: 'string' },
    set: { type: 'string', multiple: true },
    'take-over': { type: 'boolean' },
    grace: { type: 'string' },
    'dry-run': { type: 'boolean' },
    json: { type: 'boolean' },
  });
  // Where TensorFlow.js is missing, this fails rather than each of the processes.
  if (!flags['dry-run']) await import('@tensorflow/tfjs-core');
  const jobs = numberFlag('jobs', flags.jobs, { min: 1, integer: true }) ?? availableParallelism();
  const grace = numberFlag('grace', flags.grace, { min: 0 }) ?? usualGrace;
  const takeOver = flags['take-over'] ?? false;
  const [file] = positionals;
  const set = flags.set ?? [];
  await asUsageErrors(() => checkConfigFile(file));
  const original = await loadChanged(file, []);
  const check = (count: number) => void resolvePlan(setAll(original, set.slice(0, count)));
  const plan = await changesAsUsageErrors({ set, check }, () => resolvePlan(setAll(original, set)));
  const out = flags.out ?? join('runs', basename(file).replace(/(\.config)?\.[^.]+$/, ''));
  const json = flags.json ?? false;
  if (flags['dry-run']) return dryRun(plan, out, json);

  mkdirSync(out, { recursive: true });
  const lock = lockRun(out, { takeOver });
  try {
    adoptPlan(out, plan);
    await run({ file: resolve(file), set, out, grace, takeOver }, plan, lock, jobs, json);
  } finally {
    lock.release();
  }
}

/** Milliseconds to wait for the processes after a second signal. */
const endingTime = 5000;

interface Work {
  starts: number[];
  runs: Required<RunName>[];
}

/** The starts and runs that are not finished. */
function missingWork(out: string, plan: Plan): Work {
  return {
    starts: plan.seeds.filter((seed) => !isStarted(out, plan, seed)),
    runs: plan.seeds.flatMap((seed) =>
      plan.variants.filter((variant) => !isFinished(out, plan, variant, seed)).map((variant) => ({ seed, variant })),
    ),
  };
}

function dryRun(plan: Plan, out: string, json: boolean): void {
  const { starts, runs } = missingWork(out, plan);
  const all = plan.seeds.length * plan.variants.length;
  if (json) process.stdout.write(`${JSON.stringify({ out, starts, runs, plan })}\n`);
  else {
    console.log(`${JSON.stringify(plan, null, 1)}\n${out}: ${all - runs.length} of ${all} runs are finished`);
    console.log(`to do: ${starts.length} starts, ${runs.length} runs`);
  }
}

async function run(
  source: WorkersOptions['source'],
  plan: Plan,
  lock: RunLock,
  jobs: number,
  json: boolean,
): Promise<void> {
  const { out } = source;
  const progress = createProgress(json ? process.stderr : process.stdout);
  const { starts, runs } = missingWork(out, plan);
  const all = plan.seeds.length * plan.variants.length;
  const board = new Board(progress, plan.ends, { all, finished: all - runs.length, jobs });
  const [lost, end] = [new AbortController(), new AbortController()];
  let working = Promise.resolve();
  const stop = listenForStop({
    onFirst: (name) =>
      progress.print(
        `${name}: finishing the running steps (at most ${source.grace} s); a second signal discards them and ends now`,
      ),
    onSecond: async () => {
      end.abort();
      // A process that has not ended by then saves its run when it notices that this one has gone.
      await Promise.race([working, wait(endingTime)]);
      lock.release();
    },
  });
  try {
    working = runAll(starts, runs, {
      source,
      jobs,
      signal: AbortSignal.any([stop.signal, lost.signal]),
      end: end.signal,
      onStart: (name) => board.started(name),
      onStep: (name, step) => board.stepped(name, step),
      onEnd: (name, outcome) => {
        board.ended(name, outcome);
        if (!lock.isHeld) lost.abort();
      },
    });
    await working;
  } finally {
    stop.release();
  }
  // This process exits as soon as its children have ended.
  if (end.signal.aborted) return;
  lock.confirm();
  const result = await writeComparison(out);
  if (json) process.stdout.write(`${JSON.stringify(result.summary)}\n`);
  else progress.print(`\n${summaryTable(result)}\n`);
  const { report, result: written } = comparisonFiles(out);
  progress.print(`${board.count()} are finished; see ${written} and ${report}`);
  if (stop.received) process.exitCode = exitCodes[stop.received];
  else if (board.failed.length > 0) {
    throw new Error(`${board.failed.join('; ')}: failed; run the same command to try again`);
  }
}
