/**
 * An image that is another one with some layers more, onto nodes that have the other already: only what they lack is sent.
 *
 *   docker save ──► layers, configuration ──► an archive in OCI layout without the layers of the other image ──► ctr images import
 *
 * A node's store takes an archive with layers left out where it has them; a whole image of ours would take half a minute for each cluster.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tell } from './programs.ts'

/** `image` is made FROM `base`, and every node has `base`. */
export async function loadLayers(nodes: readonly string[], image: string, base: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ipref-layers-'))
  try {
    const archive = await thinArchive(folder, image, base)
    for (const node of nodes)
      await tell(
        ['sh', '-c', `docker exec -i "$1" ctr -n k8s.io images import --digests=false - <"$2"`, 'sh', node, archive],
        {
          timeoutMs: 300_000,
        },
      )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Saved {
  Config: string
  Layers: string[]
}

async function thinArchive(folder: string, image: string, base: string): Promise<string> {
  const known = JSON.parse(
    await tell(['docker', 'image', 'inspect', '--format', '{{json .RootFS.Layers}}', base]),
  ) as string[]
  const saved = join(folder, 'saved.tar')
  await tell(['docker', 'save', '--output', saved, image], { timeoutMs: 300_000 })
  const member = (name: string) => tell(['tar', '-xf', saved, '-C', folder, name], { timeoutMs: 300_000 })
  await member('manifest.json')
  const [{ Config, Layers }] = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as [Saved]
  await member(Config)
  const out = join(folder, 'oci')
  const blobs = join(out, 'blobs/sha256')
  mkdirSync(blobs, { recursive: true })
  const config = readFileSync(join(folder, Config), 'utf8')
  const { rootfs } = JSON.parse(config) as { rootfs: { diff_ids: string[] } }
  const layers = await Promise.all(
    rootfs.diff_ids.map(async (digest, i) => {
      const mediaType = 'application/vnd.oci.image.layer.v1.tar'
      if (known[i] === digest) return { mediaType, digest, size: 0 }
      await member(Layers[i]!)
      const path = join(blobs, digest.slice('sha256:'.length))
      renameSync(join(folder, Layers[i]!), path)
      return { mediaType, digest, size: statSync(path).size }
    }),
  )
  const blob = (mediaType: string, text: string) => {
    const hash = createHash('sha256').update(text).digest('hex')
    writeFileSync(join(blobs, hash), text)
    return { mediaType, digest: `sha256:${hash}`, size: Buffer.byteLength(text) }
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: blob('application/vnd.oci.image.config.v1+json', config),
    layers,
  }
  const name = image.includes('/') ? `docker.io/${image}` : `docker.io/library/${image}`
  const annotations = { 'io.containerd.image.name': name }
  const index = {
    schemaVersion: 2,
    manifests: [{ ...blob(manifest.mediaType, JSON.stringify(manifest)), annotations }],
  }
  writeFileSync(join(out, 'index.json'), JSON.stringify(index))
  writeFileSync(join(out, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  const archive = join(folder, 'thin.tar')
  await tell(['tar', '-cf', archive, '-C', out, '.'])
  return archive
}
