// Shows the progress of a comparison: a line for each finished run, and one updated in place on a terminal.

import { duration, type Progress } from '../train/progress.js';
import type { Plan } from './plan.js';
import type { Outcome, RunName } from './workers.js';

interface Working {
  began: number;
  step: number;
}

/** The starts and runs of this process. */
export class Board {
  readonly failed: string[] = [];
  private readonly working = new Map<RunName, Working>();
  private made = 0;
  private seconds = 0;

  constructor(
    private readonly progress: Progress,
    private readonly ends: Plan['ends'],
    private readonly counts: { all: number; finished: number; jobs: number },
  ) {
    if (counts.finished > 0) progress.print(`${this.count()} are finished`);
  }

  started(run: RunName): void {
    this.working.set(run, { began: performance.now(), step: 0 });
    this.show();
  }

  stepped(run: RunName, step: number): void {
    this.working.get(run)!.step = step;
    this.show();
  }

  ended(run: RunName, outcome: Outcome): void {
    const seconds = (performance.now() - this.working.get(run)!.began) / 1e3;
    this.working.delete(run);
    if (outcome.kind === 'done') {
      if (run.variant !== undefined) {
        this.counts.finished++;
        this.made++;
        this.seconds += seconds;
      }
      this.progress.print(`${nameOf(run)}: done in ${duration(seconds)}; ${this.count()}`);
    } else if (outcome.kind === 'failed') {
      this.failed.push(nameOf(run));
      this.progress.print(`${nameOf(run)}: failed: ${outcome.message}`);
    }
    this.show();
  }

  /** `3 of 12 runs`. */
  count(): string {
    return `${this.counts.finished} of ${this.counts.all} runs`;
  }

  private show(): void {
    const runs = [...this.working].map(([run, { step }]) => {
      const steps = run.variant === undefined ? null : this.ends[run.variant].steps;
      return `${nameOf(run)}${step === 0 ? '' : ` ${step}${steps === null ? '' : `/${steps}`}`}`;
    });
    this.progress.update([this.count(), ...this.timeLeft(), ...runs].join(' · '), false);
  }

  /** Assumes that the remaining runs take as long, in as many processes. */
  private timeLeft(): string[] {
    const { all, finished, jobs } = this.counts;
    const left = all - finished;
    if (this.made === 0 || left === 0) return [];
    return [`about ${duration(((this.seconds / this.made) * left) / Math.min(jobs, left))} left`];
  }
}

function nameOf({ variant, seed }: RunName): string {
  return variant === undefined ? `start of seed ${seed}` : `${variant}, seed ${seed}`;
}
