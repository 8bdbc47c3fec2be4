// Whether a server computes with the weights that it was given: its log-probs of fixed tokens and of tokens that it has sampled,
// against the policy's own.
//
// A bound on the difference alone would miss small changes of the weights, because a server computes in another precision. So
// the differences are also compared with those that a known fault would leave: a server is at fault where the fault explains its
// log-probs several times better, in squares, than the right weights do. With the usual few dozens of tokens, chance does not
// do that.

/** How many times better, in squares, a fault must explain log-probs. */
const muchBetter = 4;

/** Differences below this, in nats, may be rounding: bfloat16 has three digits, and small changes of weights vanish in it. */
const resolution = 0.01;

/** Log-probs of the same tokens, one number for each. */
export type Scores = readonly number[];

export interface ProbeResult {
  /** Mean absolute difference and largest, in nats. */
  mean: number;
  max: number;
  /** What is wrong; undefined if nothing is. */
  fault: string | undefined;
}

/**
 * Compares a server's log-probs with the policy's own.
 *
 * @param bound the mean absolute difference allowed
 * @param faults log-probs that would be seen under a fault, by its description
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
  // A NaN is no small difference.
  return { mean, max, fault: mean <= bound ? undefined : `the mean difference is above ${bound}` };
}

/** Whether the changes of a server's log-probs since another version are those of a server that has stayed as it was. */
export function hasStayed(server: { before: Scores; now: Scores }, own: { before: Scores; now: Scores }): boolean {
  const changes = ({ before, now }: { before: Scores; now: Scores }) => now.map((value, i) => value - before[i]);
  const unchanged = own.now.map(() => 0);
  return explains(changes(server), changes(own), unchanged);
}

function explains(server: Scores, own: Scores, fault: Scores): boolean {
  const squares = (expected: Scores) => server.reduce((sum, value, i) => sum + (value - expected[i]) ** 2, 0);
  return squares(own) > muchBetter * squares(fault) + server.length * resolution ** 2;
}
