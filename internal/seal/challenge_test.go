package seal

import (
	"errors"
	"strings"
	"testing"
)

func TestChallenge(t *testing.T) {
	id, other := identity(t), identity(t)
	q, err := Ask("c-1", id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := Answer(q.ID, q.Sealed[:40]+"\n  "+q.Sealed[40:], id)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := q.Right(strings.ToLower(answer)); !ok || err != nil {
		t.Errorf("the answer: %t, %v", ok, err)
	}
	if _, err := Answer(q.ID, q.Sealed, other); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("another key: %v, want ErrNoIdentity", err)
	}
	if _, err := Answer(q.ID, q.Sealed[:len(q.Sealed)-8]+"AAAAAAA=", id); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged question: %v, want ErrDamaged", err)
	}
	// An answer holds for the question that it was given to, whatever it is called.
	again, _ := Ask("c-1", id.Recipient())
	if ok, _ := again.Right(answer); ok {
		t.Error("an old answer is right again")
	}
	renamed, err := Answer("c-2", q.Sealed, id)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := q.Right(renamed); ok {
		t.Error("an answer under another name is right")
	}
	var at *GroupError
	letter := string(writtenLetters[(strings.IndexByte(writtenLetters, answer[7])+1)%32])
	if _, err := q.Right(answer[:7] + letter + answer[8:]); !errors.As(err, &at) || at.Group != 2 {
		t.Errorf("a wrong letter: %v, want group 2", err)
	}
	for _, junk := range []string{"", "00000", strings.Repeat("00000 ", 40)} {
		if ok, err := q.Right(junk); ok || err == nil {
			t.Errorf("%q: %t, %v", junk, ok, err)
		}
	}
	// A share answers with its own key.
	_, shares := split(t, 2, 2)
	own, _ := shares[0].Identity()
	q, _ = Ask("c-3", own.Recipient())
	if answer, err = Answer(q.ID, q.Sealed, own); err != nil {
		t.Fatal(err)
	}
	if ok, _ := q.Right(answer); !ok {
		t.Error("a share's answer is wrong")
	}
}
