package postgres

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"holdfast/internal/repo"
)

// A reader that is interrupted while more pieces are queued than are being read ends.
func TestReadAheadEndsWhenInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		list := spansOf(0, 10, 10, 20, 20, 30, 30, 40, 40, 50)
		s := readAhead(ctx, 1, []leg{{until: noBound, pieces: list}}, func(ctx context.Context, _ repo.LogInfo, _, _ uint64) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		defer s.close()
		synctest.Wait() // one is being read
		cancel()
		for range list {
			_, _, err := s.next()
			if err == nil || errors.Is(err, io.EOF) {
				t.Fatalf("next after the interruption: %v, want its error", err)
			}
		}
	})
}

func TestReadAheadKeepsTheOrder(t *testing.T) {
	const pieces = 50
	var list []repo.LogInfo
	for i := range uint64(pieces) {
		list = append(list, repo.LogInfo{Start: i * 10, End: i*10 + 10})
	}
	s := readAhead(t.Context(), 4, []leg{{from: 5, until: pieces*10 - 5, pieces: list}}, func(_ context.Context, _ repo.LogInfo, from, until uint64) ([]byte, error) {
		return make([]byte, until-from), nil
	})
	defer s.close()
	pos := uint64(5)
	for {
		at, b, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if at.lsn != pos {
			t.Fatalf("bytes at %d follow %d", at.lsn, pos)
		}
		pos += uint64(len(b))
	}
	if pos != pieces*10-5 {
		t.Errorf("the bytes end at %d, want %d", pos, pieces*10-5)
	}
}
