// The process of one run of a comparison. It is told by messages what to do and when to stop; signals, which a terminal
// sends to all processes at once, are its parent's to hear.

import type { ComparisonConfig } from './define-comparison.js';
import type { Assignment, Report } from './workers.js';

const stop = new AbortController();
const aborted = new Error('stopped');
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
// The parent is gone, and another may soon want the run: it goes on from its newest checkpoint.
process.on('disconnect', () => process.exit(1));

process.on('message', (message: Assignment | 'stop') => {
  if (message === 'stop') stop.abort(aborted);
  else void work(message).then(leave, (error: Error) => leave(failure(error)));
});

async function work({ file, set, out, seed, variant }: Assignment): Promise<Report> {
  const [{ loadChanged }, { resolvePlan }, { differences }, { comparisonFiles, readJson }] = await Promise.all([
    import('../config/load.js'),
    import('./plan.js'),
    import('../run/drift.js'),
    import('./folder.js'),
  ]);
  const config = await loadChanged(file, set);
  const plan = resolvePlan(config);
  const told = readJson<typeof plan>(comparisonFiles(out).plan)!;
  const found = [
    ...differences(told.identity.common, plan.identity.common),
    ...(variant === undefined ? [] : differences(told.identity.variants[variant], plan.identity.variants[variant])),
  ];
  if (found.length > 0) throw new Error(`${file}: says something else each time it is read: ${found.join('; ')}`);
  const { runStart, runVariant } = await import('./run.js');
  const comparison = { config: config as unknown as ComparisonConfig, plan, out };
  const context = {
    signal: stop.signal,
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
  // Nobody may be there to hear it.
  if (process.connected) process.send!(report, () => {});
}

function leave(report: Report): void {
  const exit = () => process.exit(report.kind === 'done' ? 0 : 1);
  if (process.connected) process.send!(report, exit);
  else exit();
}
