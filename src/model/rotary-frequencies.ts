// Frequencies of rotary position embeddings, in float32 operation by operation as transformers computes them
// (modeling_rope_utils.py). The angle at position p is p × frequency; vectors of `width` values are rotated by halves:
// x × cos + concat(−x2, x1) × sin, the other values of a head are unchanged. cos and sin are multiplied by the attention factor.

import { type Architecture, rotaryOf } from './architecture.js';
import type { RotaryParameters, RotaryScaling } from './rotary-parameters.js';

export interface RotaryFrequencies {
  /** ceil(width / 2) values, in radians per position. */
  readonly frequencies: Float32Array;
  readonly attentionFactor: number;
}

/**
 * A layer's rotary frequencies; null for a layer without rotation.
 *
 * @param length the longest sequence of the batch: beyond its original context longrope has other frequencies, which transformers
 *   uses for all positions of such a batch. Other types do not depend on it
 *
 * @example
 * const { frequencies } = rotaryFrequencies(architecture, 0)!;
 * const angle = position * frequencies[i];
 */
export function rotaryFrequencies(architecture: Architecture, layer: number, length = 0): RotaryFrequencies | null {
  const rotary = rotaryOf(architecture, layer);
  return rotary && rotaryParameterFrequencies(rotary, length);
}

const f32 = Math.fround;

/** The frequencies of given rotary parameters; see `rotaryFrequencies`. */
export function rotaryParameterFrequencies({ theta, width, scaling }: RotaryParameters, length = 0): RotaryFrequencies {
  // theta^(2i / width): every operation is exact but the power, which may differ in its last bit.
  const powers = Float32Array.from({ length: Math.ceil(width / 2) }, (_, i) => f32(theta) ** f32((2 * i) / width));
  const plain = powers.map((power) => 1 / power);
  switch (scaling.type) {
    case 'default':
      return { frequencies: plain, attentionFactor: 1 };
    case 'linear':
      return { frequencies: plain.map((frequency) => frequency / f32(scaling.factor)), attentionFactor: 1 };
    case 'llama3':
      return { frequencies: plain.map((frequency) => llama3(frequency, scaling)), attentionFactor: 1 };
    case 'yarn':
      return { frequencies: yarn(powers, theta, width, scaling), attentionFactor: scaling.attentionFactor };
    case 'longrope': {
      const { shortFactors, longFactors, originalPositions, attentionFactor } = scaling;
      const factors = length > originalPositions ? longFactors : shortFactors;
      return { frequencies: powers.map((power, i) => 1 / f32(f32(factors[i]) * power)), attentionFactor };
    }
  }
}

type Scaling<T extends RotaryScaling['type']> = Extract<RotaryScaling, { type: T }>;

function llama3(frequency: number, scaling: Scaling<'llama3'>): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions } = scaling;
  const wavelength = f32(f32(2 * Math.PI) / frequency);
  if (wavelength > f32(originalPositions / low)) return f32(frequency / f32(factor));
  if (wavelength < f32(originalPositions / high)) return frequency;
  const smooth = f32(f32(f32(originalPositions / wavelength) - f32(low)) / f32(high - low));
  const divided = f32(f32(f32(1 - smooth) * frequency) / f32(factor));
  return f32(divided + f32(smooth * frequency));
}

function yarn(powers: Float32Array, theta: number, width: number, scaling: Scaling<'yarn'>): Float32Array {
  const { factor, originalPositions, betaFast, betaSlow, truncate } = scaling;
  /** The dimension that makes this many rotations within the original context. */
  const dimension = (rotations: number) =>
    (width * Math.log(originalPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  const round = truncate ? Math : { floor: Number, ceil: Number };
  const first = Math.max(round.floor(dimension(betaFast)), 0);
  const last = Math.min(round.ceil(dimension(betaSlow)), width - 1);
  // A ramp of width 0 would divide by zero.
  const span = last === first ? 0.001 : last - first;
  return powers.map((power, i) => {
    const ramp = Math.min(Math.max(f32(f32(i - f32(first)) / f32(span)), 0), 1);
    const kept = f32(1 - ramp);
    const interpolated = f32(1 / f32(f32(factor) * power));
    return f32(f32(interpolated * f32(1 - kept)) + f32(f32(1 / power) * kept));
  });
}
