// Converts text to ids, with the package `tokenizers` (Rust, several times faster) if it is installed, else with
// @huggingface/tokenizers (JavaScript, no dependencies). Both give the ids of Python's `tokenizers`.

/** Ids of texts. */
export type Encoder = (texts: readonly string[], addSpecialTokens: boolean) => Promise<readonly (readonly number[])[]>;

/** The part of @huggingface/tokenizers used here. Its own declarations cannot be resolved under Node's rules. */
interface JavaScriptTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}
type JavaScriptTokenizers = { Tokenizer: new (tokenizer: object, config: object) => JavaScriptTokenizer };

/** The part of the package `tokenizers`, version 0.23, used here. */
interface NativeTokenizer {
  encodeBatch(texts: string[], options: { addSpecialTokens: boolean }): Promise<{ getIds(): number[] }[]>;
  disableTruncation(): void;
  disablePadding(): void;
}
type NativeTokenizers = { Tokenizer: { fromString(json: string): NativeTokenizer } };

/** Which package encodes. */
export const encoderNames = ['native', 'javascript'] as const;
export type EncoderName = (typeof encoderNames)[number];

/**
 * @param tokenizer the parsed tokenizer.json
 * @param config the parsed tokenizer_config.json
 * @param name the package to use; default: the native one if it is installed
 * @throws Error if the package cannot read the tokenizer
 */
export async function createEncoder(tokenizer: object, config: object, name?: EncoderName): Promise<Encoder> {
  const native = name === 'javascript' ? undefined : await importNative();
  if (native) return nativeEncoder(native, tokenizer);
  if (name === 'native') throw new Error("expected the package 'tokenizers' 0.23 or newer, got none");
  return javaScriptEncoder(tokenizer, config);
}

/** Typed as string, so that the compiler does not look for packages that may be missing or have no declarations. */
const packages = { native: 'tokenizers' as string, javascript: '@huggingface/tokenizers' as string };

async function importNative(): Promise<NativeTokenizers | undefined> {
  try {
    const found = (await import(packages.native)) as Partial<NativeTokenizers>;
    // Versions before 0.20 had a different interface under the same name.
    return typeof found.Tokenizer?.fromString === 'function' ? (found as NativeTokenizers) : undefined;
  } catch {
    return undefined;
  }
}

function nativeEncoder({ Tokenizer }: NativeTokenizers, tokenizer: object): Encoder {
  const own = Tokenizer.fromString(JSON.stringify(tokenizer));
  own.disableTruncation();
  own.disablePadding();
  return async (texts, addSpecialTokens) => {
    const encodings = await own.encodeBatch([...texts], { addSpecialTokens });
    return encodings.map((encoding) => encoding.getIds());
  };
}

async function javaScriptEncoder(tokenizer: object, config: object): Promise<Encoder> {
  const { Tokenizer } = (await import(packages.javascript)) as JavaScriptTokenizers;
  const own = new Tokenizer(tokenizer, config);
  return async (texts, addSpecialTokens) => {
    return texts.map((text) => own.encode(text, { add_special_tokens: addSpecialTokens }).ids);
  };
}
