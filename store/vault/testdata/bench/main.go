// Command bench measures backups and restores beside rclone and restic, which copy the
// same registry folder to the same S3 server, in one run.
//
//	go run ./store/vault/testdata/bench [-corpus LAYOUT | -images N -layers N -bytes N | -blobs N] [-rounds 3] [-restore=false] [-contenders floor,lastro,lastro-age,rclone,restic] [-dir FOLDER]
//
// The corpus is an OCI layout whose index.json names its images repo:tag; without one,
// images of random bytes are made; -blobs makes so many small blobs, fifty in an image.
// The server is versitygw, in a process and with a
// bucket of its own for each contender and round; its processor time is not counted,
// nor that of making the images. rclone and restic are the system's, with eight
// transfers at once. The floor reads every blob, hashes it and puts it with one
// request, and gets, hashes, writes and syncs it, eight at once; it does nothing else.
// lastro-age is lastro with a vault that is encrypted, as restic's always is.
//
// Each contender backs up, backs up again with nothing new, and restores into an empty
// folder, which must have as many blobs of as many bytes afterwards. What the tables
// have is the median of the rounds: wall time, the time until all of it was on disk
// (the peers leave that to the kernel), the contender's own processor time and the
// most memory that it had, and the requests in the server's log.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(log.Ltime)
	var b bench
	flag.StringVar(&b.fill.corpus, "corpus", "", "OCI layout of real images")
	flag.IntVar(&b.fill.images, "images", 40, "images to make without a corpus")
	flag.IntVar(&b.fill.layers, "layers", 4, "layers of each")
	flag.IntVar(&b.fill.bytes, "bytes", 2<<20, "bytes of each layer")
	blobs := flag.Int("blobs", 0, "blobs to make, of a kilobyte, in place of images")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds")
	flag.BoolVar(&b.restore, "restore", true, "restore as well")
	flag.StringVar(&b.lastro, "lastro", "", "lastro binary (default: built)")
	flag.StringVar(&b.dir, "dir", "", "folder to write to (default: a temporary one)")
	contenders := flag.String("contenders", "floor,lastro,lastro-age,rclone,restic", "which")
	make := flag.String("make", "", "only fill this data folder")
	put := flag.String("put", "", "only put the blobs of a registry at this address, the floor")
	get := flag.String("get", "", "only get the blobs of a registry from this address into another, the floor")
	flag.Parse()
	if *blobs > 0 { // a config and a manifest beside the layers
		b.fill = filling{images: *blobs / 50, layers: 48, bytes: 1 << 10}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *make != "":
		err = b.fill.into(ctx, *make)
	case *put != "":
		err = floor(ctx, flag.Arg(0), *put)
	case *get != "":
		err = floorBack(ctx, flag.Arg(0), *get, flag.Arg(1))
	default:
		err = b.run(ctx, strings.Split(*contenders, ","))
	}
	if err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	fill    filling
	rounds  int
	restore bool
	lastro  string
	dir     string
	self    string
	server  string // versitygw
	data    string // the data folder that is backed up
	stored  stock
}

func (b *bench) run(ctx context.Context, names []string) (err error) {
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "lastro-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(b.dir)
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	all := map[string][]result{}
	for round := range b.rounds {
		for i := range names {
			name := names[(i+round)%len(names)]
			r, err := b.contend(ctx, name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			log.Printf("round %d: %s: %s", round+1, name, r)
			all[name] = append(all[name], r)
		}
	}
	b.print(names, all)
	return nil
}

// prepare builds what is needed and fills the data folder, in a process of its own:
// what the kernel says of a process' memory begins with that of the one that starts it.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.server, err = output(ctx, "go", "tool", "-n", "-modfile=.ci/tools.mod", "versitygw"); err != nil {
		return err
	}
	if b.lastro == "" {
		b.lastro = filepath.Join(b.dir, "lastro")
		if _, err := output(ctx, "go", "build", "-o", b.lastro, "./cmd/lastro"); err != nil {
			return err
		}
	}
	b.data = filepath.Join(b.dir, "data")
	_, err = output(ctx, b.self, "-corpus", b.fill.corpus, "-images", fmt.Sprint(b.fill.images), "-layers", fmt.Sprint(b.fill.layers), "-bytes", fmt.Sprint(b.fill.bytes), "-make", b.data)
	if err == nil {
		b.stored, err = stockOf(b.data)
	}
	return err
}
