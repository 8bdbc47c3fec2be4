// The bounds of one pass through a policy (pass-size.ts). Apart from it because the trainer's settings state them, and are listed
// without TensorFlow.js.

/**
 * Maximum parameters times positions. A forward and backward pass takes about 6 floating-point operations for each: here 24 billion,
 * about 2 s on one core with the WebAssembly backend. The forward pass is a third of that.
 */
export const maxWork = { 'forward and backward': 4e9, forward: 12e9 } as const;

/**
 * On the backend groupgrad a pass takes more work until it has `positions`: a pass reads all weights, and adds up their gradients
 * where they are trained. Beyond these positions a larger pass saves only a few per cent and takes more memory. The work is about 12 s
 * on two cores with AVX-512, less than the default grace period.
 */
export const engineMaximum = {
  work: { 'forward and backward': 300e9, forward: 900e9 },
  positions: 2048,
} as const;
