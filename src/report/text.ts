// Escapes arbitrary text for markup, so that all of it is shown literally.

/** Text for the content and attributes of HTML and XML, with invisible characters made visible. */
export function markup(text: string): string {
  return visible(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Control characters as their pictures; invisible ones, and those that change the text direction, as code points. */
export function visible(text: string): string {
  return text
    .replace(/\r\n/g, '\n')
    .replace(/\p{Cc}/gu, (character) => {
      const code = character.charCodeAt(0);
      if (character === '\n' || character === '\t') return character;
      return code < 32 ? String.fromCharCode(0x2400 + code) : code === 127 ? '\u2421' : named(character);
    })
    .replace(/[\p{Cf}\p{Cs}\u2028\u2029]/gu, named);
}

function named(character: string): string {
  return `⟨U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}⟩`;
}
