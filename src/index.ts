export {
  type ComparisonConfig,
  defineComparison,
  type ProbeConfig,
  type VariantChanges,
} from './compare/define-comparison.js';
export { defineConfig, type TaskDescription, type TrainConfig } from './config/define-config.js';
export { type AnchorOptions, type AnchorState, DifficultyAnchor } from './loss/anchor.js';
export type {
  AdvantageConfig,
  Aggregation,
  EntropyConfig,
  KlConfig,
  KlEstimator,
  LossConfig,
  Ratio,
  Surrogate,
  SurrogateKind,
} from './loss/config.js';
export { DeviceArray, type DeviceDtype } from './loss/device-array.js';
export { type DeviceInfo, devices } from './loss/devices.js';
export {
  type AdvantageResult,
  computeAdvantages,
  type LogitsResult,
  type LossResult,
  logitsLoss,
  type PolicyResult,
  policyLoss,
} from './loss/losses.js';
export type { LogitsDtype, Metrics } from './loss/plan.js';
export { type PresetName, presets } from './loss/presets.js';
export type {
  DeviceChoice,
  LogitsInput,
  LogitsOptions,
  PolicyInput,
  PolicyOptions,
  Rewards,
  RunOptions,
  TokenInput,
} from './loss/request.js';
export type { PolicyLike } from './policy/policy-like.js';
export { characterVocabulary, type Vocabulary } from './policy/vocabulary.js';
export {
  type BanditExample,
  type BanditOptions,
  type ChainOptions,
  type CountdownExample,
  type CountdownOptions,
  type DigitsOptions,
  type Example,
  type JsonlOptions,
  type LettersOptions,
  type SudokuOptions,
  type Task,
  tasks,
} from './tasks/index.js';
export type {
  Evaluation,
  Group,
  GrpoStep,
  OptimizerOptions,
  Reward,
  RewardInput,
  RunResult,
  ScoredCompletion,
  StepsOptions,
  TrainerOptions,
  TransformerPolicyOptions,
  Verdict,
  WarmStartOptions,
} from './trainer/api.js';
export { GrpoTrainer, TransformerPolicy } from './trainer/entry.js';
export { defineReward, type RewardOptions } from './trainer/rewards.js';
