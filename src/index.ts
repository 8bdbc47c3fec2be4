export type { Precision } from './backend/precision.js';
export {
  type ComparisonConfig,
  defineComparison,
  type ProbeConfig,
  type VariantChanges,
} from './compare/define-comparison.js';
export {
  type DataDescription,
  defineConfig,
  type PretrainedDescription,
  type TaskDescription,
  type TrainConfig,
} from './config/define-config.js';
export type { Column } from './data/columns.js';
export type { DataFormat, Row } from './data/row-file.js';
export { DeviceArray, type DeviceDtype } from './devices/device-array.js';
export { type DeviceChoice, type DeviceInfo, devices } from './devices/devices.js';
export type { LogitsDtype, Metrics } from './devices/plan.js';
export type { SurrogateKind } from './devices/reference/surrogate.js';
export type { Aggregation, KlEstimator, Ratio } from './devices/settings.js';
export { type AnchorState, DifficultyAnchor } from './loss/anchor.js';
export type { Surrogate } from './loss/config.js';
export { computeDecoupledAdvantages, type WeightedRewards } from './loss/decoupled.js';
export {
  type AdvantageResult,
  computeAdvantages,
  type LinearResult,
  type LogitsBackwardResult,
  type LogitsResult,
  type LossResult,
  linearLoss,
  logitsBackward,
  logitsLoss,
  type PolicyResult,
  policyLoss,
} from './loss/losses.js';
export type { AdvantageConfig, AnchorOptions, EntropyConfig, KlConfig, LossConfig } from './loss/option-types.js';
export { type PresetName, presets } from './loss/presets.js';
export type {
  LinearInput,
  LinearOptions,
  LogitsBackwardInput,
  LogitsBackwardOptions,
  LogitsInput,
  LogitsOptions,
  PolicyInput,
  PolicyOptions,
  Rewards,
  RunOptions,
  TokenInput,
} from './loss/request.js';
export type { PolicyLike } from './model/policy-like.js';
export type { TransformerPolicyOptions } from './model/transformer-options.js';
export type { Communicator } from './processes/communicator.js';
export { mpi } from './processes/mpi.js';
export type {
  AnyReward,
  Evaluation,
  Group,
  GroupReward,
  GroupRewardInput,
  Reward,
  RewardInput,
  RewardSettings,
  ScoredCompletion,
  StepReward,
  StepVerdict,
  Verdict,
} from './rollout/api.js';
export type {
  Completion,
  KeptTokens,
  RolloutEngine,
  RolloutOptions,
  RolloutRequest,
  RolloutWeights,
  SamplingSettings,
} from './rollout/engine.js';
export { generate, tokenLogProbs } from './rollout/entry.js';
export type { Generated, GenerateOptions, Prompt } from './rollout/generate-api.js';
export { rewards } from './rollout/graded-rewards.js';
export { defineGroupReward, defineReward, defineStepReward, type RewardOptions } from './rollout/rewards.js';
export type { ServerOptions, SglangOptions, VllmOptions } from './rollout/server-api.js';
export { sglang } from './rollout/sglang.js';
export { vllm } from './rollout/vllm.js';
export {
  type BanditExample,
  type BanditOptions,
  type Benchmark,
  type BenchmarkName,
  benchmarks,
  type ChainOptions,
  type CountdownExample,
  type CountdownOptions,
  type Dataset,
  type DatasetExample,
  type DatasetOptions,
  type DigitsOptions,
  dataset,
  type Example,
  type GeneratedTask,
  type JsonlOptions,
  type LettersOptions,
  type Problems,
  type Scored,
  type SudokuOptions,
  type Task,
  tasks,
  type VerifiedDataset,
  type Verifier,
  type VerifierResult,
} from './tasks/index.js';
export type { ChatMessage } from './text/chat-template.js';
export type { DecodeOptions, EncodeOptions, TextStream, Tokenizer } from './text/tokenizer.js';
export { characterVocabulary, type Vocabulary } from './text/vocabulary.js';
export type {
  GrpoStep,
  OptimizerOptions,
  RunResult,
  StepsOptions,
  TrainerOptions,
  WarmStartOptions,
} from './train/api.js';
export { GrpoTrainer, PretrainedPolicy, TransformerPolicy } from './train/entry.js';
export {
  type ChoiceOptions,
  type ExactOptions,
  type Grade,
  type GradeOptions,
  type JsonSchema,
  type NumericOptions,
  verify,
} from './verify/index.js';
export type {
  ChoiceReward,
  CosineOptions,
  ExactReward,
  FormatOptions,
  GoldOption,
  Judge,
  MathsReward,
  OverlongOptions,
  RepetitionOptions,
  RewardQuery,
} from './verify/rewards.js';
export type { LoraOptions, PretrainedOptions, SaveOptions, WeightType } from './weights/pretrained-options.js';
