// The supported model families, as data: the defaults of each configuration class in transformers, what a family computes
// differently, and one table that maps groupgrad's modules to the tensors of a Hugging Face folder. Taken from transformers 5.18;
// to add a family, add an entry here.

import { checkNumber, checkObject, describe, rangeError } from '../base/check.js';
import {
  type Activation,
  type Architecture,
  type FamilyName,
  familyNames,
  type LayerArchitecture,
  parametersOf,
} from './architecture.js';
import { ConfigReader } from './config-reader.js';
import type { RotaryParameters, RotaryScaling } from './rotary-parameters.js';

/** Defaults of a configuration's missing keys. */
interface Defaults {
  vocabularySize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  /** null: the number of heads. */
  keyValueHeads: number | null;
  /** null: hidden size / heads. */
  headSize: number | null;
  maxPositions: number;
  epsilon: number;
  activation: Activation;
  theta: number;
  tied: boolean;
  endTokens: readonly number[];
}

interface Family {
  /** The class in `architectures` with these weights. */
  readonly className: string;
  readonly defaults: Defaults;
  readonly activationKey: 'hidden_act' | 'hidden_activation';
  readonly biases: (config: ConfigReader) => Architecture['biases'];
  /** Each layer's kind of attention, and the window of the sliding ones. */
  readonly attention: (config: ConfigReader, layers: number) => { kinds: AttentionKind[]; window: number | null };
  /** Whether a layer rotates queries and keys. Default: all do. */
  readonly rotates?: (config: ConfigReader, layers: number) => boolean[];
  /** Part of a head may be left unrotated. */
  readonly partialRotary?: true;
  /** Other names of the rope type `longrope`. */
  readonly longropeNames?: readonly string[];
  /** The context of pretraining, which rope types with scaling need. Default: `max_position_embeddings`. */
  readonly originalPositions?: number;
  /** Sliding layers have their own rotation with this theta. */
  readonly localTheta?: number;
  readonly gemma?: { attentionSoftCap: number | null; finalSoftCap: number | null };
  readonly queryKeyNorms?: true;
  readonly fused?: true;
  readonly names: Readonly<Record<string, string>>;
}

const attentionKinds = ['full_attention', 'sliding_attention'] as const;
type AttentionKind = (typeof attentionKinds)[number];

/** groupgrad's module names to those in the files; `*` is the layer's index. */
const commonNames = {
  embedding: 'model.embed_tokens',
  'layers.*.attention.norm': 'model.layers.*.input_layernorm',
  'layers.*.attention.query': 'model.layers.*.self_attn.q_proj',
  'layers.*.attention.key': 'model.layers.*.self_attn.k_proj',
  'layers.*.attention.value': 'model.layers.*.self_attn.v_proj',
  'layers.*.attention.queryKeyValue': 'model.layers.*.self_attn.qkv_proj',
  'layers.*.attention.queryNorm': 'model.layers.*.self_attn.q_norm',
  'layers.*.attention.keyNorm': 'model.layers.*.self_attn.k_norm',
  'layers.*.attention.output': 'model.layers.*.self_attn.o_proj',
  'layers.*.feedforward.norm': 'model.layers.*.post_attention_layernorm',
  'layers.*.feedforward.gate': 'model.layers.*.mlp.gate_proj',
  'layers.*.feedforward.up': 'model.layers.*.mlp.up_proj',
  'layers.*.feedforward.gateUp': 'model.layers.*.mlp.gate_up_proj',
  'layers.*.feedforward.down': 'model.layers.*.mlp.down_proj',
  norm: 'model.norm',
  unembedding: 'lm_head',
};

/** Gemma 2 and 3 have four norms per layer. */
const gemmaNames = {
  ...commonNames,
  'layers.*.attention.postNorm': 'model.layers.*.post_attention_layernorm',
  'layers.*.feedforward.norm': 'model.layers.*.pre_feedforward_layernorm',
  'layers.*.feedforward.postNorm': 'model.layers.*.post_feedforward_layernorm',
};

const noBiases = () => ({ queryKeyValue: false, output: false, feedForward: false });

/** `attention_bias` covers query, key, value and output. */
function attentionBias(config: ConfigReader) {
  const bias = config.boolean('attention_bias', false);
  return { queryKeyValue: bias, output: bias, feedForward: false };
}

function attentionAndMlpBias(config: ConfigReader) {
  return { ...attentionBias(config), feedForward: config.boolean('mlp_bias', false) };
}

function everywhere(layers: number, kind: AttentionKind): AttentionKind[] {
  return Array.from({ length: layers }, () => kind);
}

/** `layer_types`, or if the configuration has none, a kind by the layer's index. */
function layerKinds(config: ConfigReader, layers: number, fallback: (layer: number) => boolean): AttentionKind[] {
  const given = config.list('layer_types', layers);
  if (!given) return Array.from({ length: layers }, (_, i) => (fallback(i) ? 'sliding_attention' : 'full_attention'));
  return given.map((kind) => {
    const known = attentionKinds.find((name) => name === kind);
    if (!known) throw rangeError(config.field('layer_types'), `${attentionKinds.join(' or ')}`, describe(kind));
    return known;
  });
}

/** A non-null window applies to every layer. */
function windowEverywhere(fallback: number | null): Family['attention'] {
  return (config, layers) => {
    const window = config.nullableSize('sliding_window', fallback);
    return { kinds: everywhere(layers, window === null ? 'full_attention' : 'sliding_attention'), window };
  };
}

/** Qwen: a window only with `use_sliding_window`, in the layers from `max_window_layers` on. */
function qwenWindow(config: ConfigReader, layers: number) {
  const isUsed = config.boolean('use_sliding_window', false);
  const window = isUsed ? config.nullableSize('sliding_window', 4096) : null;
  const from = config.has('max_window_layers') ? Number(config.get('max_window_layers') ?? Number.NaN) : 28;
  if (!(from >= 0)) {
    throw rangeError(
      config.field('max_window_layers'),
      'a number of at least 0',
      describe(config.get('max_window_layers')),
    );
  }
  return { kinds: layerKinds(config, layers, (layer) => window !== null && layer >= from), window };
}

function ropeLayers(config: ConfigReader, layers: number): boolean[] {
  const given = config.list('no_rope_layers', layers);
  const interval = config.size('no_rope_layer_interval', 4);
  if (!given) return Array.from({ length: layers }, (_, i) => (i + 1) % interval !== 0);
  return given.map((value) => {
    if (value !== 0 && value !== 1 && typeof value !== 'boolean') {
      throw rangeError(
        config.field('no_rope_layers'),
        '1 for each layer with RoPE and 0 for the others',
        describe(value),
      );
    }
    return Boolean(value);
  });
}

function smollm3Window(config: ConfigReader, layers: number) {
  const window = config.nullableSize('sliding_window', null);
  const isUsed = config.boolean('use_sliding_window', false) && window !== null;
  const rotates = ropeLayers(config, layers);
  return { kinds: layerKinds(config, layers, (layer) => isUsed && !rotates[layer]), window };
}

function gemmaWindow(pattern: (config: ConfigReader) => number): Family['attention'] {
  return (config, layers) => {
    const every = pattern(config);
    const kinds = layerKinds(config, layers, (layer) => (layer + 1) % every !== 0);
    return { kinds, window: config.nullableSize('sliding_window', 4096) };
  };
}

const gemmaDefaults = {
  hiddenSize: 2304,
  intermediateSize: 9216,
  layers: 26,
  heads: 8,
  keyValueHeads: 4,
  headSize: 256,
  epsilon: 1e-6,
  activation: 'gelu_pytorch_tanh',
  tied: true,
  endTokens: [1],
} as const;

const qwenDefaults = {
  vocabularySize: 151936,
  hiddenSize: 4096,
  intermediateSize: 22016,
  layers: 32,
  heads: 32,
  keyValueHeads: 32,
  headSize: null,
  maxPositions: 32768,
  epsilon: 1e-6,
  activation: 'silu',
  theta: 1e4,
  tied: false,
  endTokens: [],
} as const;

const families: Readonly<Record<FamilyName, Family>> = {
  llama: {
    className: 'LlamaForCausalLM',
    defaults: {
      vocabularySize: 32000,
      hiddenSize: 4096,
      intermediateSize: 11008,
      layers: 32,
      heads: 32,
      keyValueHeads: null,
      headSize: null,
      maxPositions: 2048,
      epsilon: 1e-6,
      activation: 'silu',
      theta: 1e4,
      tied: false,
      endTokens: [2],
    },
    activationKey: 'hidden_act',
    biases: attentionAndMlpBias,
    attention: (_, layers) => ({ kinds: everywhere(layers, 'full_attention'), window: null }),
    names: commonNames,
  },
  qwen2: {
    className: 'Qwen2ForCausalLM',
    defaults: qwenDefaults,
    activationKey: 'hidden_act',
    biases: () => ({ queryKeyValue: true, output: false, feedForward: false }),
    attention: qwenWindow,
    names: commonNames,
  },
  qwen3: {
    className: 'Qwen3ForCausalLM',
    defaults: { ...qwenDefaults, headSize: 128 },
    activationKey: 'hidden_act',
    biases: attentionBias,
    attention: qwenWindow,
    queryKeyNorms: true,
    names: commonNames,
  },
  smollm3: {
    className: 'SmolLM3ForCausalLM',
    defaults: {
      vocabularySize: 128256,
      hiddenSize: 2048,
      intermediateSize: 11008,
      layers: 36,
      heads: 16,
      keyValueHeads: 4,
      headSize: null,
      maxPositions: 32768,
      epsilon: 1e-6,
      activation: 'silu',
      theta: 2e6,
      tied: true,
      endTokens: [128001],
    },
    activationKey: 'hidden_act',
    biases: attentionAndMlpBias,
    attention: smollm3Window,
    rotates: ropeLayers,
    names: commonNames,
  },
  mistral: {
    className: 'MistralForCausalLM',
    defaults: {
      vocabularySize: 32000,
      hiddenSize: 4096,
      intermediateSize: 14336,
      layers: 32,
      heads: 32,
      keyValueHeads: 8,
      headSize: null,
      maxPositions: 4096 * 32,
      epsilon: 1e-6,
      activation: 'silu',
      theta: 1e4,
      tied: false,
      endTokens: [2],
    },
    activationKey: 'hidden_act',
    biases: noBiases,
    attention: windowEverywhere(4096),
    names: commonNames,
  },
  gemma2: {
    className: 'Gemma2ForCausalLM',
    defaults: { ...gemmaDefaults, vocabularySize: 256000, maxPositions: 8192, theta: 1e4 },
    activationKey: 'hidden_activation',
    biases: attentionBias,
    attention: gemmaWindow(() => 2),
    gemma: { attentionSoftCap: 50, finalSoftCap: 30 },
    names: gemmaNames,
  },
  gemma3_text: {
    className: 'Gemma3ForCausalLM',
    defaults: { ...gemmaDefaults, vocabularySize: 262208, maxPositions: 131072, theta: 1e6 },
    activationKey: 'hidden_activation',
    biases: attentionBias,
    attention: gemmaWindow((config) => config.size('sliding_window_pattern', 6)),
    localTheta: 1e4,
    gemma: { attentionSoftCap: null, finalSoftCap: null },
    queryKeyNorms: true,
    names: gemmaNames,
  },
  phi3: {
    className: 'Phi3ForCausalLM',
    defaults: {
      vocabularySize: 32064,
      hiddenSize: 3072,
      intermediateSize: 8192,
      layers: 32,
      heads: 32,
      keyValueHeads: null,
      headSize: null,
      maxPositions: 4096,
      epsilon: 1e-5,
      activation: 'silu',
      theta: 1e4,
      tied: false,
      endTokens: [32000],
    },
    activationKey: 'hidden_act',
    biases: noBiases,
    attention: windowEverywhere(null),
    partialRotary: true,
    longropeNames: ['su', 'yarn'],
    originalPositions: 4096,
    fused: true,
    names: commonNames,
  },
};

/** More layers than any model has; bounded because a description has an entry per layer. */
const maxLayers = 1000;

/**
 * The architecture that a Hugging Face configuration describes. Both spellings of keys are read (`rope_parameters`, or
 * `rope_scaling` with `rope_theta`; `rope_type` or `type`), and a missing key takes the default of its class in transformers.
 *
 * @param config the parsed config.json
 * @param path what errors call it
 * @throws TypeError or RangeError, naming the key, for a family, rope type, activation or quantisation that is not known,
 *   and for sizes that do not fit together
 *
 * @example
 * const architecture = readArchitecture(parseJson(fs.readFileSync('Qwen2.5-0.5B/config.json', 'utf8')));
 */
export function readArchitecture(config: unknown, path = 'config.json'): Architecture {
  const reader = new ConfigReader(checkObject(path, config), path);
  const name = familyOf(reader);
  const family = families[name];
  refuseVariants(reader, family);
  const { defaults } = family;
  const hiddenSize = reader.size('hidden_size', defaults.hiddenSize);
  const heads = reader.size('num_attention_heads', defaults.heads);
  const keyValueHeads = reader.has('num_key_value_heads')
    ? reader.size('num_key_value_heads', heads)
    : (defaults.keyValueHeads ?? heads);
  if (heads % keyValueHeads !== 0) {
    throw rangeError(reader.field('num_key_value_heads'), `a divisor of the ${heads} heads`, String(keyValueHeads));
  }
  const headSize = headSizeOf(reader, hiddenSize, heads, defaults.headSize);
  const layers = reader.size('num_hidden_layers', defaults.layers);
  if (layers > maxLayers) throw rangeError(reader.field('num_hidden_layers'), `at most ${maxLayers}`, String(layers));
  const vocabularySize = reader.size('vocab_size', defaults.vocabularySize);
  const maxPositions = reader.size('max_position_embeddings', defaults.maxPositions);
  const { gemma } = family;
  return {
    family: name,
    vocabularySize,
    hiddenSize,
    intermediateSize: reader.size('intermediate_size', defaults.intermediateSize),
    heads,
    keyValueHeads,
    headSize,
    maxPositions,
    ...layersOf(reader, family, layers, { headSize, maxPositions }),
    norm: { epsilon: reader.positive('rms_norm_eps', defaults.epsilon), offset: gemma ? 1 : 0 },
    queryKeyNorms: family.queryKeyNorms ?? false,
    postNorms: gemma !== undefined,
    biases: family.biases(reader),
    activation: activationOf(reader, family),
    fused: family.fused ?? false,
    attention: {
      scale: (gemma ? reader.positive('query_pre_attn_scalar', 256) : headSize) ** -0.5,
      softCap: gemma ? reader.nullablePositive('attn_logit_softcapping', gemma.attentionSoftCap) : null,
    },
    finalSoftCap: gemma ? reader.nullablePositive('final_logit_softcapping', gemma.finalSoftCap) : null,
    embeddingScale: gemma ? Math.sqrt(hiddenSize) : 1,
    tiedEmbeddings: reader.boolean('tie_word_embeddings', defaults.tied),
    // A default may be outside a small vocabulary; it then never occurs.
    endTokens: reader.tokens('eos_token_id', defaults.endTokens).filter((id) => id < vocabularySize),
  };
}

function familyOf(reader: ConfigReader): FamilyName {
  const type = reader.get('model_type');
  const family = familyNames.find((name) => name === type);
  if (!family) throw rangeError(reader.field('model_type'), `one of ${familyNames.join(', ')}`, describe(type));
  return family;
}

/** Rejects configurations of anything but the family's causal language model with plain weights. */
function refuseVariants(reader: ConfigReader, { className }: Family): void {
  for (const key of ['quantization_config', 'compression_config']) {
    const quantised = reader.get(key);
    if (quantised === undefined) continue;
    const method = (quantised as { quant_method?: unknown }).quant_method;
    throw rangeError(reader.field(key), 'weights that are not quantised', describe(method ?? quantised));
  }
  const classes = reader.get('architectures');
  if (classes !== undefined && !(Array.isArray(classes) && classes.includes(className))) {
    const got = Array.isArray(classes) ? classes.map(describe).join(', ') : describe(classes);
    throw rangeError(reader.field('architectures'), className, got);
  }
  if (reader.get('use_bidirectional_attention')) {
    throw rangeError(reader.field('use_bidirectional_attention'), 'causal attention', 'true');
  }
}

function headSizeOf(reader: ConfigReader, hiddenSize: number, heads: number, fallback: number | null): number {
  const given = reader.get('head_dim') ?? fallback;
  if (given !== null) return reader.size('head_dim', fallback ?? undefined);
  if (hiddenSize % heads !== 0) {
    throw rangeError(reader.field('hidden_size'), `a multiple of the ${heads} heads`, String(hiddenSize));
  }
  return hiddenSize / heads;
}

/** transformers has the same function under several names. */
const activations: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu_pytorch_tanh: 'gelu_pytorch_tanh',
};

function activationOf(reader: ConfigReader, { activationKey, defaults }: Family): Activation {
  const name = reader.text(activationKey, defaults.activation);
  if (!Object.hasOwn(activations, name)) {
    throw rangeError(reader.field(activationKey), `one of ${Object.keys(activations).join(', ')}`, describe(name));
  }
  return activations[name];
}

interface Sizes {
  headSize: number;
  maxPositions: number;
}

function layersOf(reader: ConfigReader, family: Family, count: number, sizes: Sizes) {
  const { kinds, window } = family.attention(reader, count);
  if (window === null && kinds.includes('sliding_attention')) {
    throw rangeError(reader.field('sliding_window'), 'a window for the sliding layers', 'none');
  }
  const rotates = family.rotates?.(reader, count) ?? kinds.map(() => true);
  const rotaries = rotariesOf(reader, family, sizes);
  const layers = kinds.map((kind, i): LayerArchitecture => {
    const isSliding = kind === 'sliding_attention';
    const rotary = isSliding && rotaries.length > 1 ? 1 : 0;
    return { rotary: rotates[i] ? rotary : null, window: isSliding ? window : null };
  });
  return { layers, rotaries };
}

/** One rotation for all layers, or one of full and one of sliding layers. */
function rotariesOf(reader: ConfigReader, family: Family, sizes: Sizes): RotaryParameters[] {
  const none = new ConfigReader({}, reader.path);
  const scaling = reader.object('rope_scaling');
  const given = reader.object('rope_parameters');
  const theta = reader.positive('rope_theta', family.defaults.theta);
  const [full, sliding] = attentionKinds.map((kind) => given?.object(kind));
  const isNested = attentionKinds.some((kind) => given?.has(kind));
  if (family.localTheta !== undefined) {
    if (given && !isNested) throw rangeError(given.path, `parameters for ${attentionKinds.join(' and ')}`, 'others');
    const localTheta = reader.positive('rope_local_base_freq', family.localTheta);
    return [
      // transformers merges rope_scaling into the parameters of full layers.
      readRotary(reader, scaling?.over(full) ?? full ?? none, family, theta, sizes),
      readRotary(reader, sliding ?? none, family, localTheta, sizes),
    ];
  }
  if (isNested && !scaling) return [full, sliding].map((own) => readRotary(reader, own ?? none, family, theta, sizes));
  return [readRotary(reader, scaling ?? given ?? none, family, theta, sizes)];
}

function readRotary(
  reader: ConfigReader,
  own: ConfigReader,
  family: Family,
  theta: number,
  { headSize, maxPositions }: Sizes,
): RotaryParameters {
  const partial = own.positive('partial_rotary_factor', reader.positive('partial_rotary_factor', 1));
  if (partial > 1 || (partial !== 1 && !family.partialRotary)) {
    const expected = family.partialRotary ? 'at most 1' : '1 in this family';
    throw rangeError(own.field('partial_rotary_factor'), expected, String(partial));
  }
  const width = Math.floor(headSize * partial);
  if (width < 1 || 2 * Math.ceil(width / 2) > headSize) {
    throw rangeError(reader.field('head_dim'), 'a head that holds an even number of rotated values', String(headSize));
  }
  const scaling = readScaling(reader, own, family, { count: Math.ceil(width / 2), maxPositions });
  return { theta: own.positive('rope_theta', theta), width, scaling };
}

const scalingTypes = ['default', 'linear', 'llama3', 'yarn', 'longrope'] as const;

/** @param sizes `count` frequencies in a head */
function readScaling(
  reader: ConfigReader,
  own: ConfigReader,
  { longropeNames, originalPositions: fallback }: Family,
  { count, maxPositions }: { count: number; maxPositions: number },
): RotaryScaling {
  const given = own.text('rope_type', own.text('type', 'default'));
  const type = longropeNames?.includes(given) ? 'longrope' : given;
  // A value next to the rope parameters takes precedence over one within them.
  const key = 'original_max_position_embeddings';
  const originalPositions = reader.size(key, own.size(key, fallback ?? maxPositions));
  const ratio = maxPositions / originalPositions;
  switch (type) {
    case 'default':
      return { type };
    case 'linear':
      return { type, factor: own.positive('factor') };
    case 'llama3': {
      const lowFrequencyFactor = own.positive('low_freq_factor');
      const highFrequencyFactor = own.positive('high_freq_factor');
      if (highFrequencyFactor <= lowFrequencyFactor) {
        throw rangeError(own.field('high_freq_factor'), `above ${lowFrequencyFactor}`, String(highFrequencyFactor));
      }
      return { type, factor: own.positive('factor'), lowFrequencyFactor, highFrequencyFactor, originalPositions };
    }
    case 'yarn': {
      const factor = own.positive('factor', ratio);
      return {
        type,
        factor,
        originalPositions,
        betaFast: own.positive('beta_fast', 32),
        betaSlow: own.positive('beta_slow', 1),
        truncate: own.boolean('truncate', true),
        attentionFactor: own.positive('attention_factor', yarnAttention(own, factor)),
      };
    }
    case 'longrope': {
      const factor = own.positive('factor', ratio);
      const suggested = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalPositions));
      return {
        type,
        shortFactors: own.positives('short_factor', count),
        longFactors: own.positives('long_factor', count),
        originalPositions,
        attentionFactor: own.positive('attention_factor', suggested),
      };
    }
    default:
      throw rangeError(own.field('rope_type'), `one of ${scalingTypes.join(', ')}`, describe(given));
  }
}

/** 0.1 ln(factor) + 1, or the quotient of two such terms if both of their weights are given. */
function yarnAttention(own: ConfigReader, factor: number): number {
  const term = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const weight = (key: string) => checkNumber(own.field(key), own.get(key) ?? 0);
  const [mscale, mscaleAll] = [weight('mscale'), weight('mscale_all_dim')];
  return mscale && mscaleAll ? term(mscale) / term(mscaleAll) : term(1);
}

/** The names of a model's tensors, in both directions. */
export interface TensorNames {
  /** groupgrad's name of a parameter → its tensor in the files. */
  readonly tensors: ReadonlyMap<string, string>;
  /** The reverse. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** The name of each parameter in a Hugging Face folder: `layers.0.attention.query` is `model.layers.0.self_attn.q_proj.weight`.
 */
export function tensorNames(architecture: Architecture): TensorNames {
  const pairs = parametersOf(architecture).map(({ name, module }) => {
    const suffix = name === module.name ? 'weight' : 'bias';
    return [name, `${modulePath(architecture, module.name)}.${suffix}`] as const;
  });
  return {
    tensors: new Map(pairs),
    parameters: new Map(pairs.map(([parameter, tensor]) => [tensor, parameter])),
  };
}

/** A module's path in a Hugging Face model: `model.layers.0.self_attn.q_proj`. */
export function modulePath({ family }: Architecture, module: string): string {
  const { names } = families[family];
  const [, layer] = /^layers\.(\d+)\./.exec(module) ?? [];
  const name = layer === undefined ? module : module.replace(`.${layer}.`, '.*.');
  if (!Object.hasOwn(names, name)) throw rangeError('module', `a module of ${family}`, describe(module));
  return layer === undefined ? names[name] : names[name].replace('*', layer);
}
