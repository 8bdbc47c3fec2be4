// HA-DW with a live anchor: the order in which a batch is weighted and observed.

import { type AdvantageConfig, computeAdvantages, type DifficultyAnchor } from 'groupgrad';
import { sum } from './statistics.js';

/** Advantages with HA-DW at λ, and the anchor that they were computed with. The anchor observes the batch, before or after. */
export function computeAnchored(
  rewards: Float64Array,
  config: Omit<AdvantageConfig, 'hadw'>,
  anchor: DifficultyAnchor,
  scale: number,
) {
  if (anchor.timing === 'posterior') anchor.observe(sum([...rewards], (r) => r) / rewards.length);
  const hadw = { anchor: anchor.value, scale };
  const weighted = computeAdvantages(rewards, { ...config, hadw }, { device: 'reference' });
  if (anchor.timing === 'prior') anchor.observe(weighted.accuracy);
  return { advantages: weighted.advantages, active: weighted.active, anchor: weighted.metrics['hadw/anchor'] };
}
