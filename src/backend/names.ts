// The tfjs backends that can be chosen, as plain constants.

export const backends = ['groupgrad', 'tensorflow', 'wasm', 'cpu'] as const;
/** A tfjs backend by its name in tfjs. */
export type Backend = (typeof backends)[number];
