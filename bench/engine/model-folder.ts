// A model in the shape of SmolLM2-135M with random weights and a tokenizer of numbered words: a folder, or a file for llama.cpp.

import { closeSync, openSync, writeSync } from 'node:fs';
import { parametersOf } from '../../src/model/architecture.js';
import { readArchitecture, tensorNames } from '../../src/model/families.js';
import { encodeFloats, type FloatType } from '../../src/weights/floats.js';
import { tinyTokenizer, writeModelFolder } from '../../test/support/model-folder.js';
import { encodeGguf } from './gguf.js';

const vocab = 49_152;

/** `word`: the word of an id; ids below 3 are special, and 7 more have names of their own. */
export const word = (id: number) => `w${id}`;
export const firstWord = 10;

const configOf = (layers: number) => ({
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: layers,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: vocab,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  bos_token_id: 1,
  eos_token_id: 2,
  tie_word_embeddings: true,
});

/** Ones for norms; for matrices multiples of an odd number, spread evenly over 2^32, about the size of trained ones. */
function weightsOf(shape: readonly number[]): Float32Array {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  if (shape.length === 1) return values.fill(1);
  for (let i = 0; i < values.length; i++) values[i] = (Math.imul(i + 1, 0x9e3779b1) / 2 ** 32) * 0.1;
  return values;
}

export function writeModel(folder: string, layers: number, type: FloatType): void {
  const config = configOf(layers);
  const architecture = readArchitecture(config);
  const { tensors } = tensorNames(architecture);
  const entries = parametersOf(architecture).map(
    ({ name, shape }) => [tensors.get(name)!, { shape, values: weightsOf(shape) }] as const,
  );
  const ids = Array.from({ length: vocab - firstWord }, (_, i) => [word(firstWord + i), firstWord + i] as const);
  // The package tokenizers wants every option of the decoder.
  const decoder = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };
  const tokenizer = { ...tinyTokenizer({ vocab: Object.fromEntries(ids) }), decoder };
  const tokenizerConfig = { tokenizer_class: 'PreTrainedTokenizerFast', eos_token: '</s>', pad_token: '<pad>' };
  writeModelFolder(folder, { config, tensors: Object.fromEntries(entries), type, tokenizer, tokenizerConfig });
}

/** llama.cpp's names of the parts of a layer. */
const ggufParts: Record<string, string> = {
  'attention.norm': 'attn_norm',
  'attention.query': 'attn_q',
  'attention.key': 'attn_k',
  'attention.value': 'attn_v',
  'attention.output': 'attn_output',
  'feedforward.norm': 'ffn_norm',
  'feedforward.gate': 'ffn_gate',
  'feedforward.up': 'ffn_up',
  'feedforward.down': 'ffn_down',
};

function ggufName(name: string): string {
  if (name === 'embedding') return 'token_embd.weight';
  if (name === 'norm') return 'output_norm.weight';
  const [, layer, part] = /^layers\.(\d+)\.(.+)$/.exec(name)!;
  return `blk.${layer}.${ggufParts[part]}.weight`;
}

/** The same model as a file for llama.cpp, which wants norms in float32. Rows of queries and keys are not reordered for its rotary form. */
export function writeGguf(file: string, layers: number, type: 'F32' | 'BF16'): void {
  const config = configOf(layers);
  const tensors = parametersOf(readArchitecture(config)).map(({ name, shape }) => ({
    name: ggufName(name),
    shape,
    type: shape.length === 1 ? ('F32' as const) : type,
  }));
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const special = ['<unk>', '<s>', '</s>', ...bytes];
  const words = Array.from({ length: vocab }, (_, id) => special[id] ?? word(id));
  const header = encodeGguf(
    {
      'general.architecture': 'llama',
      'llama.context_length': config.max_position_embeddings,
      'llama.embedding_length': config.hidden_size,
      'llama.block_count': layers,
      'llama.feed_forward_length': config.intermediate_size,
      'llama.attention.head_count': config.num_attention_heads,
      'llama.attention.head_count_kv': config.num_key_value_heads,
      'llama.attention.layer_norm_rms_epsilon': Float32Array.of(config.rms_norm_eps),
      'llama.rope.freq_base': Float32Array.of(config.rope_theta),
      'llama.vocab_size': vocab,
      'tokenizer.ggml.model': 'llama',
      'tokenizer.ggml.tokens': words,
      'tokenizer.ggml.bos_token_id': config.bos_token_id,
      'tokenizer.ggml.eos_token_id': config.eos_token_id,
    },
    tensors,
  );
  const descriptor = openSync(file, 'w');
  try {
    const write = (piece: Uint8Array, at: number) => {
      for (let done = 0; done < piece.length; ) done += writeSync(descriptor, piece, done, undefined, at + done);
    };
    write(header.bytes, 0);
    tensors.forEach(({ shape, type: own }, i) => {
      write(encodeFloats(own, weightsOf(shape)), header.bytes.length + header.offsets[i]);
    });
  } finally {
    closeSync(descriptor);
  }
}
