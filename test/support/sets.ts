// The sets of tests. `npm test` runs those that take seconds; longer ones belong to one of the two sets below, each of
// which has a quick counterpart. The reasons name the variable by which scripts/test.mjs counts skipped tests.

const isSet = (variable: string) => process.env[variable] === '1';
const skipUnless = (variable: string, what: string) => (isSet(variable) ? false : `${what}: set ${variable}=1`);

/**
 * Why a test of the slow set is skipped, or false if it is to run: it compiles native code, checks every combination,
 * starts many processes, or needs much memory. CI runs these.
 *
 * @example test('…', { skip: slowSet('takes 7 GB') }, () => …)
 */
export const slowSet = (what: string): string | false => skipUnless('GROUPGRAD_SLOW_TESTS', what);

/** The same for the training set: it trains for minutes. */
export const trainingSet = (what: string): string | false => skipUnless('GROUPGRAD_TRAINING_TESTS', what);

/** How often a random test is repeated: `all` in the slow set, else `few`. */
export const repeats = (few: number, all: number): number => (isSet('GROUPGRAD_SLOW_TESTS') ? all : few);

/** The places of a long list that are looked at: all in the slow set, else one of `apart`. */
export const placesOf = (length: number, apart: number): number[] =>
  Array.from({ length }, (_, i) => i).filter((i) => isSet('GROUPGRAD_SLOW_TESTS') || i % apart === 0);

/** For tests that go through backends: tfjs's own in plain JavaScript takes longest, and is left to the slow set. */
export const slowBackend = (backend: string): string | false =>
  backend === 'cpu' && slowSet('JavaScript loops are slow');
