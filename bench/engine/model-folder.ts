// A model folder in the shape of SmolLM2-135M, with random weights and a tokenizer of numbered words.

import { parametersOf } from '../../src/model/architecture.js';
import { readArchitecture, tensorNames } from '../../src/model/families.js';
import type { FloatType } from '../../src/weights/floats.js';
import { tinyTokenizer, writeModelFolder } from '../../test/support/model-folder.js';

const vocab = 49_152;

/** `word`: the word of an id; ids below 3 are special, and 7 more have names of their own. */
export const word = (id: number) => `w${id}`;
export const firstWord = 10;

export function writeModel(folder: string, layers: number, type: FloatType): void {
  const config = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: layers,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    vocab_size: vocab,
    max_position_embeddings: 2048,
    bos_token_id: 1,
    eos_token_id: 2,
    tie_word_embeddings: true,
  };
  const architecture = readArchitecture(config);
  const { tensors } = tensorNames(architecture);
  const entries = parametersOf(architecture).map(({ name, shape }) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    // Multiples of an odd number are spread evenly over 2^32; matrices are about the size of trained ones.
    for (let i = 0; i < values.length; i++) values[i] = (Math.imul(i + 1, 0x9e3779b1) / 2 ** 32) * 0.1;
    return [tensors.get(name)!, { shape, values: shape.length === 1 ? values.fill(1) : values }] as const;
  });
  const ids = Array.from({ length: vocab - firstWord }, (_, i) => [word(firstWord + i), firstWord + i] as const);
  // The package tokenizers wants every option of the decoder.
  const decoder = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };
  const tokenizer = { ...tinyTokenizer({ vocab: Object.fromEntries(ids) }), decoder };
  const tokenizerConfig = { tokenizer_class: 'PreTrainedTokenizerFast', eos_token: '</s>', pad_token: '<pad>' };
  writeModelFolder(folder, { config, tensors: Object.fromEntries(entries), type, tokenizer, tokenizerConfig });
}
