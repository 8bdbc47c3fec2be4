// Runs the parts of a comparison in separate processes, several at a time.

import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { moduleFile } from '../base/package-folder.js';

/** The task of a process. */
export interface Assignment extends RunName {
  /** The comparison's file, and the changes to it. */
  file: string;
  set: readonly string[];
  out: string;
  /** Seconds that a step may take to finish after `stop`. */
  grace: number;
  /** Whether to take the run from a process that is using it. */
  takeOver: boolean;
}

/** Sent to a running process: `stop` finishes the running step, `end` discards it. Both save what is complete. */
export type Order = 'stop' | 'end';

export interface RunName {
  seed: number;
  /** Omitted for the seed's start. */
  variant?: string;
}

/** A message from a process. */
export type Report =
  | { kind: 'step'; step: number }
  | { kind: 'done' }
  | { kind: 'stopped' }
  | { kind: 'failed'; message: string };

export type Outcome = Exclude<Report, { kind: 'step' }>;

export interface WorkersOptions {
  source: Omit<Assignment, keyof RunName>;
  /** Maximum number of processes at a time. */
  jobs: number;
  /** Ends running processes cleanly, and starts no more. */
  signal: AbortSignal;
  /** Ends the running processes at once, after they have saved what is complete. */
  end: AbortSignal;
  onStart: (run: RunName) => void;
  onStep: (run: RunName, step: number) => void;
  onEnd: (run: RunName, outcome: Outcome) => void;
}

/**
 * Runs the starts and then, for each seed whose start is complete, its runs: in order, at most `jobs` at a time. A failure
 * does not end other runs. `starts` are the seeds whose start is not complete. Returns when all processes have ended.
 */
export async function runAll(
  starts: readonly number[],
  runs: readonly Required<RunName>[],
  options: WorkersOptions,
): Promise<void> {
  const missing = new Set(starts);
  // Seed by seed, so that whole seeds are finished early.
  const seeds = [...new Set([...starts, ...runs.map(({ seed }) => seed)])];
  const waiting: RunName[] = seeds.flatMap((seed) => [
    ...(missing.has(seed) ? [{ seed }] : []),
    ...runs.filter((run) => run.seed === seed),
  ]);
  const isReady = ({ seed, variant }: RunName) => variant === undefined || !missing.has(seed);
  const running = new Set<Promise<void>>();
  while (waiting.length > 0 || running.size > 0) {
    const next = options.signal.aborted || running.size >= options.jobs ? -1 : waiting.findIndex(isReady);
    if (next >= 0) {
      const [run] = waiting.splice(next, 1);
      const ended: Promise<void> = runOne(run, options).then((outcome) => {
        running.delete(ended);
        if (run.variant === undefined && outcome.kind === 'done') missing.delete(run.seed);
        options.onEnd(run, outcome);
      });
      running.add(ended);
    } else if (running.size > 0) await Promise.race(running);
    // The remaining runs need a start that has failed, or were not begun because of a signal.
    else return;
  }
}

async function runOne(run: RunName, { source, jobs, signal, end, onStart, onStep }: WorkersOptions): Promise<Outcome> {
  const program = moduleFile('compare/worker');
  const child = fork(program, {
    env: { ...process.env, ...threadLimits(jobs) },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  onStart(run);
  const orders = [
    [signal, () => send(child, 'stop')],
    [end, () => send(child, 'end')],
  ] as const;
  for (const [when, order] of orders) when.addEventListener('abort', order);
  try {
    return await outcomeOf(child, { ...source, ...run }, signal, (step) => onStep(run, step));
  } finally {
    for (const [when, order] of orders) when.removeEventListener('abort', order);
  }
}

/** A process that has just exited cannot receive it. */
function send(child: ChildProcess, message: Assignment | Order): void {
  if (child.connected) child.send(message, () => {});
}

/** Number of characters kept of a process's standard error. */
const maxErrorText = 4000;

function outcomeOf(
  child: ChildProcess,
  assignment: Assignment,
  signal: AbortSignal,
  onStep: (step: number) => void,
): Promise<Outcome> {
  return new Promise((resolve) => {
    let outcome: Outcome | undefined;
    let errors = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-maxErrorText);
    });
    child.on('message', (report: Report) => {
      if (report.kind === 'step') onStep(report.step);
      else outcome = report;
    });
    child.on('error', (error) => {
      outcome ??= { kind: 'failed', message: error.message };
      if (child.pid === undefined) resolve(outcome);
    });
    child.on('close', (code, by) => {
      if (outcome) resolve(outcome);
      else if (signal.aborted) resolve({ kind: 'stopped' });
      else
        resolve({ kind: 'failed', message: `its process ended with ${by ?? `exit status ${code}`}\n${errors}`.trim() });
    });
    send(child, assignment);
  });
}

/** Limits TensorFlow's threads, so that all processes together have as many as there are cores. */
function threadLimits(jobs: number): Record<string, string> {
  const threads = String(Math.max(1, Math.floor(availableParallelism() / jobs)));
  return { TF_NUM_INTRAOP_THREADS: threads, TF_NUM_INTEROP_THREADS: '1' };
}
