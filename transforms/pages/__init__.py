"""Web pages and archives of them to pairs of image URL and alt-text. What a pair is worth is for
`pairs` and `corpus` to say."""
