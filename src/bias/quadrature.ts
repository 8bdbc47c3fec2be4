// Numerical integration with a checked error: the double exponential (tanh-sinh) rule of Takahasi and Mori, "Double
// exponential formulas for numerical integration" (1974).

/** Steps are 2 ** -level. Rules of successive levels are compared from the second of these on. */
const firstLevel = 2;
const lastLevel = 11;

/** The outermost nodes: their distance from an end of the interval is e^-exponent of its length. */
const exponent = 690;

interface Rule {
  /** Distances of the nodes from the nearer end, as shares of the interval's length. */
  distances: number[];
  /** Before multiplication by the step and the length. */
  weights: number[];
}

const rules: Rule[] = [];

/**
 * ∫ f from `from` to `to`. f must be analytic inside the interval, and may have algebraic or logarithmic singularities at its
 * ends; it is not evaluated there. If f is less smooth, the caller splits the interval.
 *
 * The step is halved until two successive results differ by at most `tolerance` · ∫ |f|. For such f the number of correct digits
 * roughly doubles with each halving, so the last result is far better than that.
 * @throws Error if that is not reached.
 */
export function integrate(f: (x: number) => number, from: number, to: number, tolerance = 1e-12): number {
  const length = to - from;
  if (!(length > 0)) return 0;
  let sum = 0;
  let size = 0;
  const add = (value: number, weight: number) => {
    sum += weight * value;
    size += weight * Math.abs(value);
  };
  add(f(from + length / 2), Math.PI / 4);
  let before = Number.NaN;
  for (let level = firstLevel; level <= lastLevel; level++) {
    const { distances, weights } = ruleOf(level);
    for (let i = 0; i < distances.length; i++) {
      const offset = length * distances[i];
      const left = from + offset;
      const right = to - offset;
      // Nodes that round to an end contribute less than the last digit.
      if (left > from) add(f(left), weights[i]);
      if (right < to) add(f(right), weights[i]);
    }
    const step = 2 ** -level * length;
    const result = step * sum;
    if (Math.abs(result - before) <= tolerance * step * size) return result;
    before = result;
  }
  throw new Error(`the integral from ${from} to ${to} did not converge: ${before} and no closer than ${tolerance}`);
}

/** The nodes of a level that earlier levels do not have, except the middle one. */
function ruleOf(level: number): Rule {
  rules[level] ??= makeRule(level);
  return rules[level];
}

function makeRule(level: number): Rule {
  const step = 2 ** -level;
  const rule: Rule = { distances: [], weights: [] };
  for (let i = 1; ; i += level === firstLevel ? 1 : 2) {
    const t = i * step;
    // x = from + length · u with u = 1 / (1 + e^(-π sinh t)); the distance from the nearer end is e^-q / (1 + e^-q).
    const q = Math.PI * Math.sinh(t);
    if (q > exponent) return rule;
    const small = Math.exp(-q);
    rule.distances.push(small / (1 + small));
    rule.weights.push((Math.PI * Math.cosh(t) * small) / (1 + small) ** 2);
  }
}
