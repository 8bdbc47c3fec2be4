// Whether rewards differ: the rule shared by advantage statistics, `frac_reward_zero_std` and dynamic sampling.
// native/core/advantage.hpp implements it for the native devices.

/**
 * Rewards that are equal up to rounding have no spread: [0.1 + 0.2, 0.3] are the same reward, and their difference divided by
 * itself would be an advantage of 1. A weighted sum of K rewards in floating point, with half a unit in the last place u, is off
 * by at most K u times the sum of its terms' sizes, so two such sums of equal value differ by at most 2 K u times that: here K =
 * 64 in float64 (u = 2^-53), and K = 4 in float32 (u = 2^-24) for rewards given in float32.
 */
const rounding = { float32: 2 ** -21, float64: 2 ** -46 };

/** Whether a sum of rounded terms is 0 up to rounding. `magnitude`: the sum of the terms' magnitudes. */
export function isRoundingOfZero(sum: number, magnitude: number, precision: 'float32' | 'float64'): boolean {
  return Number.isFinite(magnitude) && Math.abs(sum) <= rounding[precision] * magnitude;
}

/** Whether the rewards with a verdict (not NaN) differ by more than rounding. False if there are none. */
export function hasSpread(rewards: readonly number[], precision: 'float32' | 'float64'): boolean {
  let low = Infinity;
  let high = -Infinity;
  for (const reward of rewards) {
    if (reward < low) low = reward;
    if (reward > high) high = reward;
  }
  return high - low > rounding[precision] * Math.max(Math.abs(low), Math.abs(high));
}
