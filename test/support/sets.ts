// The sets of tests. `npm test` runs those that take seconds; what takes longer belongs to one of the two sets below, each of
// which has a quick counterpart among them. The reasons name the variable by which scripts/test.mjs counts what was left.

function skipUnless(variable: string, what: string): string | false {
  return process.env[variable] === '1' ? false : `${what}: set ${variable}=1`;
}

/**
 * Why a test of the slow set is skipped, or false where it is to run: it compiles native code, repeats many times, or takes
 * much memory. CI runs these.
 *
 * @example test('…', { skip: slowSet('takes 7 GB') }, () => …)
 */
export const slowSet = (what: string): string | false => skipUnless('GROUPGRAD_SLOW_TESTS', what);

/** The same for the training set: it trains for minutes. */
export const trainingSet = (what: string): string | false => skipUnless('GROUPGRAD_TRAINING_TESTS', what);
