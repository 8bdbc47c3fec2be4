// Shows progress: one line updated in place on a terminal, a few plain lines elsewhere.

import { findMetric, type MetricName, recordedAs } from '../base/metrics.js';
import type { Metrics } from '../devices/plan.js';
import type { GrpoStep, Output } from './api.js';

export interface Progress {
  /** Shows the current state. If the output is not a terminal, only milestones are printed. */
  update(text: string, milestone: boolean): void;
  /** Prints a line that stays. */
  print(text: string): void;
}

/** Progress on a stream, usually process.stdout. */
export function createProgress(stream: Output): Progress {
  const eraseLine = '\r\x1b[2K';
  const print = (text: string) => void stream.write(`${stream.isTTY ? eraseLine : ''}${text}\n`);
  return {
    print,
    update(text, milestone) {
      if (!stream.isTTY) {
        if (milestone) print(text);
        return;
      }
      // A line that wraps could not be erased.
      stream.write(eraseLine + text.slice(0, (stream.columns ?? 80) - 1));
    },
  };
}

/** Seconds after which output that is not a terminal gets another line. */
const lineEvery = 10;

/** Shows a run: its steps, their warnings and faults, and notices as they come. */
export class RunProgress {
  private noticesTold = 0;
  private began = performance.now();
  private first = 0;
  private printed = performance.now();

  /**
   * @param max the number of the last step, if there is one
   * @param sizes the number of problems of each evaluation
   */
  constructor(
    private readonly progress: Progress,
    private readonly allNotices: readonly string[],
    private readonly max: number | undefined,
    private readonly sizes: ReadonlyMap<string, number>,
  ) {}

  /** Prints new notices. */
  notices(): void {
    while (this.noticesTold < this.allNotices.length) this.progress.print(this.allNotices[this.noticesTold++]);
  }

  /** Called before the first step, which follows the one numbered `step`: the time per step is measured from here. */
  begin(step: number): void {
    this.notices();
    [this.began, this.first] = [performance.now(), step];
  }

  /**
   * The evaluations of the step numbered `max` are the run's results: they have lines of their own.
   *
   * @param last the number of the run's last step, which a rollback may have reduced
   */
  step(step: GrpoStep, last: number): void {
    const { progress, max } = this;
    const now = performance.now();
    const secondsPerStep = (now - this.began) / 1e3 / Math.max(1, last - this.first);
    const isMilestone = step.index === max || now - this.printed > 1e3 * lineEvery || step.fault !== undefined;
    if (isMilestone) this.printed = now;
    const results = step.index === max ? accuraciesOf(step.metrics) : [];
    const shown = Object.entries(step.metrics).filter(([name]) => !results.some((result) => result.metric === name));
    const line = progressLine({ ...step, metrics: Object.fromEntries(shown) }, max, secondsPerStep);
    if (accuraciesOf(step.metrics).length > 0) progress.print(line);
    else progress.update(line, isMilestone);
    if (step.fault !== undefined) progress.print(step.fault);
    for (const warning of step.warnings) progress.print(`warning: ${warning}`);
    this.notices();
    for (const { name, accuracy } of results) progress.print(evaluationLine(name, accuracy, this.sizes.get(name)!));
  }
}

const evaluation: MetricName = 'eval/<evaluation>/accuracy';

/** A step in one line: `step 12/500  reward 0.431  entropy 0.52  2100 tokens/s  3 min left`. */
export function progressLine(
  { index, metrics, timing }: GrpoStep,
  max: number | undefined,
  secondsPerStep: number,
): string {
  const number = (name: string, text: string) =>
    Number.isFinite(metrics[name]) ? [`${text} ${metrics[name].toFixed(3)}`] : [];
  const shown = (['reward', 'entropy', evaluation] satisfies MetricName[]).flatMap((name) =>
    recordedAs(name, Object.keys(metrics)),
  );
  return [
    `step ${index}${max === undefined ? '' : `/${max}`}`,
    ...shown.flatMap((name) => number(name, findMetric(name)?.values.evaluation ?? name)),
    ...(timing.tokens_per_second ? [`${Math.round(timing.tokens_per_second)} tokens/s`] : []),
    ...(max === undefined || index >= max ? [] : [`${duration((max - index) * secondsPerStep)} left`]),
  ].join('  ');
}

/** The accuracies of the evaluations that a step was followed by. */
export function accuraciesOf(metrics: Metrics): { metric: string; name: string; accuracy: number }[] {
  return recordedAs(evaluation, Object.keys(metrics)).map((metric) => ({
    metric,
    name: findMetric(metric)!.values.evaluation!,
    accuracy: metrics[metric],
  }));
}

/** The result of an evaluation of `count` problems in one line: `heldOut: 82.7 % of 52 right`. */
export function evaluationLine(name: string, accuracy: number, count: number): string {
  return `${name}: ${(100 * accuracy).toFixed(1)} % of ${count} right`;
}

/** `40 s`, `12 min`, `3.5 h`. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
