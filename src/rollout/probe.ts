// Checks that a server computes with the weights it was given, by comparing its log-probs of fixed tokens and of tokens that it
// sampled with the policy's own.
//
// A bound on the difference alone would miss small changes of the weights, because a server computes in another precision. So
// the differences are also compared with those that known faults would cause. A fault is reported if it explains the server's
// log-probs several times better (in squared error) than the right weights do, which chance practically never does with the
// usual number of tokens, a few dozen.

/** How many times smaller the squared error under a fault must be. */
const muchBetter = 4;

/** Differences below this, in nats, may be rounding: bfloat16 has three digits, and small changes of the weights vanish in it. */
const resolution = 0.01;

/** Log-probs of the same tokens, one number per token. */
export type Scores = readonly number[];

export interface ProbeResult {
  /** Mean and largest absolute difference, in nats. */
  mean: number;
  max: number;
  /** What is wrong; undefined if nothing is. */
  fault: string | undefined;
}

/**
 * Compares a server's log-probs with the policy's own.
 *
 * @param bound the largest mean absolute difference allowed
 * @param faults the log-probs that each fault would cause, by its description
 */
export function compareProbe(
  server: Scores,
  own: Scores,
  bound: number,
  faults: Readonly<Record<string, Scores>> = {},
): ProbeResult {
  const differences = server.map((value, i) => Math.abs(value - own[i]));
  const mean = differences.reduce((a, b) => a + b, 0) / Math.max(1, differences.length);
  const max = differences.reduce((a, b) => Math.max(a, b), 0);
  const explained = Object.entries(faults).find(([, scores]) => explains(server, own, scores));
  if (explained) return { mean, max, fault: explained[0] };
  // With a NaN, `mean <= bound` is false.
  return { mean, max, fault: mean <= bound ? undefined : `the mean difference is above ${bound}` };
}

/** Whether a server's log-probs have changed so little since another version that it must still have the old weights. */
export function hasStayed(server: { before: Scores; now: Scores }, own: { before: Scores; now: Scores }): boolean {
  const changes = ({ before, now }: { before: Scores; now: Scores }) => now.map((value, i) => value - before[i]);
  const unchanged = own.now.map(() => 0);
  return explains(changes(server), changes(own), unchanged);
}

function explains(server: Scores, own: Scores, fault: Scores): boolean {
  const squares = (expected: Scores) => server.reduce((sum, value, i) => sum + (value - expected[i]) ** 2, 0);
  return squares(own) > muchBetter * squares(fault) + server.length * resolution ** 2;
}
