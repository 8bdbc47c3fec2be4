// How matrix products are computed, as plain constants.

/** In float32, or of factors rounded to bfloat16 with sums in float32. Only our own backend has bfloat16. */
export const precisions = ['float32', 'bfloat16'] as const;
export type Precision = (typeof precisions)[number];
