// The process of one run of a comparison. Its parent sends messages that say what to do and when to stop; signals, which a
// terminal sends to all processes at once, are left to the parent.

import type { RunTrainer } from '../train/grpo.js';
import { exitCodes, type StopSignal } from '../train/signals.js';
import type { ComparisonConfig } from './define-comparison.js';
import type { Assignment, Order, Report } from './workers.js';

const stop = new AbortController();
const aborted = new Error('stopped');
let trainer: RunTrainer | undefined;
for (const signal of Object.keys(exitCodes) as StopSignal[]) process.on(signal, () => {});
// The parent has gone, and a new one may want to continue the run soon.
process.on('disconnect', () => {
  abandon();
  process.exit(1);
});

process.on('message', (message: Assignment | Order) => {
  if (message === 'stop') stop.abort(aborted);
  else if (message === 'end') leave(abandon());
  else void work(message).then(leave, (error: Error) => leave(failure(error)));
});

/** Saves what is complete and releases the run folder. */
function abandon(): Report {
  try {
    trainer?.abandon();
    return { kind: 'stopped' };
  } catch (error) {
    return failure(error as Error);
  }
}

async function work({ file, set, out, seed, variant, grace, takeOver }: Assignment): Promise<Report> {
  const [{ loadChanged }, { resolvePlan }, { differences }, { comparisonFiles, readJson }] = await Promise.all([
    import('../config/load.js'),
    import('./plan.js'),
    import('../run/drift.js'),
    import('./folder.js'),
  ]);
  const config = await loadChanged(file, set);
  const plan = resolvePlan(config);
  const stored = readJson<typeof plan>(comparisonFiles(out).plan)!;
  const found = [
    ...differences(stored.identity.common, plan.identity.common),
    ...(variant === undefined ? [] : differences(stored.identity.variants[variant], plan.identity.variants[variant])),
  ];
  if (found.length > 0)
    throw new Error(`${file}: gives another configuration each time it is read: ${found.join('; ')}`);
  const { runStart, runVariant } = await import('./run.js');
  const comparison = { config: config as unknown as ComparisonConfig, plan, out };
  const context = {
    signal: stop.signal,
    grace,
    takeOver,
    onTrainer: (made: RunTrainer) => {
      trainer = made;
    },
    onStep: (step: number) => send({ kind: 'step', step }),
  };
  if (variant === undefined) await runStart(comparison, seed, context);
  else await runVariant(comparison, variant, seed, context);
  return { kind: 'done' };
}

function failure(error: Error): Report {
  return error === aborted ? { kind: 'stopped' } : { kind: 'failed', message: error.message };
}

function send(report: Report): void {
  // The parent may have gone.
  if (process.connected) process.send!(report, () => {});
}

function leave(report: Report): void {
  const exit = () => process.exit(report.kind === 'done' ? 0 : 1);
  if (process.connected) process.send!(report, exit);
  else exit();
}
