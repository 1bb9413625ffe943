import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import preact from "@preact/preset-vite";
import { defineConfig, type Plugin } from "vite";

const OUTPUT = "../src/hpcq/page";

/** Packs each asset once, so that the service need not. */
function packed(): Plugin {
  return {
    name: "packed",
    closeBundle() {
      const folder = join(import.meta.dirname, OUTPUT, "assets");
      for (const name of readdirSync(folder)) {
        const content = readFileSync(join(folder, name));
        writeFileSync(join(folder, `${name}.br`), brotliCompressSync(content));
        writeFileSync(join(folder, `${name}.gz`), gzipSync(content, { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  // Addresses are relative: the page works below any ROOT_PATH.
  base: "./",
  build: { outDir: OUTPUT, emptyOutDir: true, target: "es2022", assetsInlineLimit: 0, modulePreload: false },
  plugins: [preact(), packed()],
});
