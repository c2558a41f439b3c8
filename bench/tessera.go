// SPDX-License-Identifier: Apache-2.0

// Measures Tessera's POSIX log: workers that each add an entry and wait until a published checkpoint covers it.
// Usage: tessera FOLDER WORKERS ENTRIES SIZE RAMP_S WINDOW_S. Each worker adds ENTRIES at a time. Prints one JSON object.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// The least that the driver takes; what is published later is not yet verifiable.
const checkpointEvery = 100 * time.Millisecond

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err := run(os.Args[1], number(2), number(3), number(4), seconds(5), seconds(6)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder string, workers, entries, size int, ramp, window time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	private, _, err := note.GenerateKey(rand.Reader, "qcos.bench/tessera")
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: folder})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(checkpointEvery).
		WithBatching(256, 5*time.Millisecond).
		WithPushback(uint(workers*entries + 4096))
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 2*time.Millisecond)
	begin := time.Now().Add(ramp)
	end := begin.Add(window)
	var lock sync.Mutex
	var all []float64
	var group sync.WaitGroup
	failed := make(chan error, workers)
	for range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			var own []float64
			for time.Now().Before(end) {
				began := time.Now()
				if err := add(ctx, appender, awaiter, entries, size); err != nil {
					failed <- err
					return
				}
				if done := time.Now(); done.After(begin) && done.Before(end) {
					own = append(own, done.Sub(began).Seconds())
				}
			}
			lock.Lock()
			defer lock.Unlock()
			all = append(all, own...)
		}()
	}
	group.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	if err := shutdown(ctx); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"seconds": window.Seconds(), "done_s": all})
}

// add returns once the last of the entries is under a published checkpoint: they are integrated in their order.
func add(ctx context.Context, to *tessera.Appender, awaiter *tessera.PublicationAwaiter, entries, size int) error {
	futures := make([]tessera.IndexFuture, entries)
	for at := range futures {
		body := make([]byte, size)
		if _, err := rand.Read(body); err != nil {
			return err
		}
		futures[at] = to.Add(ctx, tessera.NewEntry(body))
	}
	for _, future := range futures {
		if _, err := future(); err != nil {
			return err
		}
	}
	_, _, err := awaiter.Await(ctx, futures[entries-1])
	return err
}

func number(at int) int {
	found, err := strconv.Atoi(os.Args[at])
	if err != nil {
		panic(err)
	}
	return found
}

func seconds(at int) time.Duration {
	found, err := strconv.ParseFloat(os.Args[at], 64)
	if err != nil {
		panic(err)
	}
	return time.Duration(found * float64(time.Second))
}
