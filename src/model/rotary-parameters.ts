// Parameters of rotary position embeddings (RoPE, arXiv 2104.09864), as data.

/** How the context is extended beyond that of pretraining. */
export type RotaryScaling =
  | { readonly type: 'default' }
  /** Position interpolation (arXiv 2306.15595): every frequency divided by `factor`. */
  | { readonly type: 'linear'; readonly factor: number }
  /** Llama 3.1: low frequencies divided, high ones kept, those between interpolated. */
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalPositions: number;
    }
  /** YaRN (arXiv 2309.00071): by the number of rotations within the original context. */
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Round the ends of the ramp to whole dimensions. */
      readonly truncate: boolean;
      readonly attentionFactor: number;
    }
  /** LongRoPE (arXiv 2402.13753): a divisor for each frequency, one set within the original context, one beyond it. */
  | {
      readonly type: 'longrope';
      readonly shortFactors: readonly number[];
      readonly longFactors: readonly number[];
      readonly originalPositions: number;
      readonly attentionFactor: number;
    };

export interface RotaryParameters {
  readonly theta: number;
  /** Number of rotated values per head: floor(head size × partial factor), rounded up to an even number. */
  readonly width: number;
  readonly scaling: RotaryScaling;
}
