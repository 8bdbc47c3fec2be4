// The published combinations of ratio, surrogate and aggregation with their published hyperparameters. None sets a KL or an
// entropy term: add `kl: { beta, ... }` if your recipe has one.

import type { LossConfig } from './option-types.js';

const clip = { kind: 'clip', low: 0.2, high: 0.2 } as const;

export const presets = {
  /** GRPO (DeepSeekMath, arXiv 2402.03300, eq. 3), PPO's usual clip range. */
  grpo: { ratio: 'token', surrogate: clip, aggregation: 'sequence-mean' },
  /** GRPO normalised by the local batch's token count (TRL's bnpo). */
  bnpo: { ratio: 'token', surrogate: clip, aggregation: 'token-mean' },
  /** Dr. GRPO (arXiv 2503.20783): divide by a constant; use it with advantages of scale 'none'. */
  dr_grpo: { ratio: 'token', surrogate: clip, aggregation: 'constant' },
  /** DAPO (arXiv 2503.14476): clip-higher, token-level loss; pass `normalizer` with gradient accumulation. */
  dapo: { ratio: 'token', surrogate: { kind: 'clip', low: 0.2, high: 0.28 }, aggregation: 'token-mean' },
  /**
   * DGPO (arXiv 2601.20614, eq. 3); use it with advantages of scale 'group-mad' and with `dqw`, and in the trainer with
   * `zeroStdGroups: 'drop'`, because its mean is over the tokens of groups with spread.
   */
  dgpo: { ratio: 'token', surrogate: clip, aggregation: 'token-mean' },
  /** GSPO (arXiv 2507.18071, section 5.1). */
  gspo: { ratio: 'sequence', surrogate: { kind: 'clip', low: 3e-4, high: 4e-4 }, aggregation: 'sequence-mean' },
  /** GSPO-token (arXiv 2507.18071, section 4.3). */
  gspo_token: {
    ratio: 'sequence-token',
    surrogate: { kind: 'clip', low: 3e-4, high: 4e-4 },
    aggregation: 'sequence-mean',
  },
  /** LUSPO (arXiv 2602.05261): GSPO with each sequence's loss scaled by its length; GSPO's clip range. */
  luspo: { ratio: 'sequence', surrogate: { kind: 'clip', low: 3e-4, high: 4e-4 }, aggregation: 'sequence-sum' },
  /** CISPO (MiniMax-M1, arXiv 2506.13585) with ScaleRL's bound of 5 (arXiv 2510.13786). */
  cispo: { ratio: 'token', surrogate: { kind: 'cispo', high: 5 }, aggregation: 'token-mean' },
  /** SAPO (arXiv 2511.20347); its temperatures are the surrogate's defaults. */
  sapo: { ratio: 'token', surrogate: { kind: 'sapo' }, aggregation: 'sequence-mean' },
  /** GMPO (arXiv 2507.20673): ratios clipped to (e^−0.4, e^0.4). */
  gmpo: { ratio: 'token', surrogate: { kind: 'gmpo', low: 0.4, high: 0.4 }, aggregation: 'sequence-mean' },
  /** VESPO (arXiv 2602.10693); its k and λ are the surrogate's defaults. */
  vespo: {
    ratio: 'token',
    surrogate: { kind: 'vespo' },
    aggregation: 'token-mean',
  },
  /** Policy gradient without a ratio. */
  reinforce: { ratio: 'token', surrogate: { kind: 'reinforce' }, aggregation: 'token-mean' },
} as const satisfies Record<string, LossConfig>;

export type PresetName = keyof typeof presets;

/** The loss of a run whose configuration names none. */
export const usualPreset = 'dapo' satisfies PresetName;
