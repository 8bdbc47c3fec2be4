// Progress for people: one line that stays put on a terminal, a few plain lines elsewhere.

import type { Metrics } from '../devices/plan.js';
import type { GrpoStep, Output } from './api.js';

export interface Progress {
  /** Shows the state. Where output is not a terminal, only milestones are printed. */
  update(text: string, milestone: boolean): void;
  /** Leaves a line for good. */
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

const evaluation = /^eval\/[^/]+\/accuracy$/;

/** A step in one line: `step 12/500  reward 0.431  entropy 0.52  2100 tokens/s  3 min left`. */
export function progressLine(
  { index, metrics, timing }: GrpoStep,
  max: number | undefined,
  secondsAStep: number,
): string {
  const number = (name: string, text: string) =>
    Number.isFinite(metrics[name]) ? [`${text} ${metrics[name].toFixed(3)}`] : [];
  const evaluated = Object.keys(metrics).filter((name) => evaluation.test(name));
  return [
    `step ${index}${max === undefined ? '' : `/${max}`}`,
    ...number('reward', 'reward'),
    ...number('entropy', 'entropy'),
    ...evaluated.flatMap((name) => number(name, name.split('/')[1])),
    ...(timing.tokens_per_second ? [`${Math.round(timing.tokens_per_second)} tokens/s`] : []),
    ...(max === undefined || index >= max ? [] : [`${duration((max - index) * secondsAStep)} left`]),
  ].join('  ');
}

/** Whether a step was evaluated: its line is then one to keep. */
export function hasEvaluation(metrics: Metrics): boolean {
  return Object.keys(metrics).some((name) => evaluation.test(name));
}

/** `40 s`, `12 min`, `3.5 h`. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
