// Two evaluations of the same problems, compared problem by problem.

import { rangeError } from '../base/check.js';
import { mean } from '../base/statistics.js';
import { isRight, type ProblemRecord, problemValues } from './records.js';
import { type Estimate, estimate, signFlipTest } from './statistics.js';

export interface PairedQuantity {
  name: string;
  /** Means of each evaluation over the problems that both have. */
  before: number;
  after: number;
  /** Mean difference, after minus before, with a 95 % interval over problems. */
  difference: Estimate;
  /** Two-sided p-value of the sign-flip test; null if no problem differs. */
  p: number | null;
}

export interface PairedComparison {
  /** Problems that both have, by prompt and answer. */
  problems: number;
  /** Problems that only one of them has. */
  onlyBefore: number;
  onlyAfter: number;
  quantities: PairedQuantity[];
  /** Problems with more, and with fewer, right completions than before. */
  better: number;
  worse: number;
  /** The problems with the largest differences in the share right, at most ten in each direction. */
  changes: { prompt: string; answer: string; before: number; after: number }[];
}

const maxChanges = 10;

const keyOf = ({ prompt, answer }: ProblemRecord) => JSON.stringify([prompt, answer]);

/**
 * Compares two evaluations on the problems that both have. Quantities that depend on the number of samples are compared if both
 * have them: evaluations of 8 and 16 samples share pass@1, pass@2, pass@4, pass@8 and their means. RangeError if they have no
 * problem in common.
 */
export function comparePaired(before: readonly ProblemRecord[], after: readonly ProblemRecord[]): PairedComparison {
  const others = new Map(after.map((problem) => [keyOf(problem), problem]));
  const pairs = before.flatMap((problem) => {
    const other = others.get(keyOf(problem));
    return other ? [{ before: problem, after: other }] : [];
  });
  if (pairs.length === 0) throw rangeError('evaluations', 'problems that both have, by prompt and answer', 'none');
  const values = pairs.map((pair) => ({ before: commonValues(pair.before), after: commonValues(pair.after) }));
  const names = Object.keys(values[0].before).filter((name) => name in values[0].after);
  const shares = pairs.map((pair) => ({
    prompt: pair.before.prompt,
    answer: pair.before.answer,
    before: shareRight(pair.before),
    after: shareRight(pair.after),
  }));
  const differing = shares.filter((one) => one.before !== one.after);
  const bySize = [...differing].sort((a, b) => b.after - b.before - (a.after - a.before));
  return {
    problems: pairs.length,
    onlyBefore: before.length - pairs.length,
    onlyAfter: after.length - pairs.length,
    quantities: names.map((name) => {
      const differences = values.map((one) => one.after[name] - one.before[name]);
      return {
        name,
        before: mean(values.map((one) => one.before[name])),
        after: mean(values.map((one) => one.after[name])),
        difference: estimate(differences),
        // The signs of zeros do not matter.
        p: signFlipTest(differences.filter((difference) => difference !== 0)).p,
      };
    }),
    better: differing.filter((one) => one.after > one.before).length,
    worse: differing.filter((one) => one.after < one.before).length,
    changes: bySize.length <= 2 * maxChanges ? bySize : [...bySize.slice(0, maxChanges), ...bySize.slice(-maxChanges)],
  };
}

/** The mean under a name that does not depend on the number of samples. */
function commonValues(problem: ProblemRecord): Record<string, number> {
  const { [`avg@${problem.completions.length}`]: avg, ...rest } = problemValues(problem);
  return { avg, ...rest };
}

function shareRight({ completions }: ProblemRecord): number {
  return completions.filter(isRight).length / completions.length;
}
