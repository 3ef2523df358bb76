use proptest::prelude::*;

use super::*;

fn vector(text: &str) -> Vec<f32> {
    Model::Hash1.embed(text, None).unwrap()
}

fn cosine(a: &str, b: &str) -> f64 {
    vector(a).iter().zip(vector(b)).map(|(x, y)| f64::from(*x) * f64::from(y)).sum()
}

/// A text, one that says about the same, and one that says something else.
const LABELLED: &[[&str; 3]] = &[
    ["How do I reset my password?", "I forgot my password, how can I reset it?", "How do I cancel my order?"],
    ["The cat sat on the mat.", "A cat was sitting on the mat", "The train leaves at nine."],
    ["What is the refund policy?", "Tell me about your policy for refunds", "What is the weather like?"],
    ["accommodation in Vienna", "acommodation in viena", "accounting in Venice"],
    ["definitely separate", "definately seperate", "default settings"],
    ["PostgreSQL connection pooling", "pooling of connections in Postgres", "Swimming pool opening hours"],
    ["Wie ändere ich meine Adresse?", "Ich möchte meine Adresse ändern", "Wie koche ich Reis?"],
    [
        "Öffnungszeiten der Bücherei",
        "Wann hat die Buecherei geöffnet? Öffnungszeit",
        "Schwimmkurse für Kinder",
    ],
    ["¿Dónde está la estación de tren?", "donde esta la estacion del tren", "¿Cuánto cuesta la cena?"],
    ["Le café est fermé le lundi", "le cafe est ferme lundi", "Le musée ouvre à dix heures"],
    ["Как сбросить пароль?", "Сбросьте мой пароль, пожалуйста", "Какая сегодня погода?"],
    ["如何重置密码", "怎么重置我的密码", "今天天气怎么样"],
    ["パスワードを忘れました", "パスワードを忘れてしまった", "明日の天気はどうですか"],
    ["비밀번호를 재설정하려면", "비밀번호 재설정 방법", "오늘 날씨가 어때요"],
    ["كيف أعيد تعيين كلمة المرور", "إعادة تعيين كلمة المرور", "ما هو الطقس اليوم"],
    ["पासवर्ड कैसे बदलें", "मुझे पासवर्ड बदलना है", "आज मौसम कैसा है"],
    ["ฉันลืมรหัสผ่าน", "ลืมรหัสผ่านของฉัน", "วันนี้อากาศเป็นอย่างไร"],
];

#[test]
fn what_is_near_is_nearer_than_what_is_far() {
    for [text, near, far] in LABELLED {
        let (near_by, far_by) = (cosine(text, near), cosine(text, far));
        assert!(near_by > far_by + 0.2, "{text}: {near_by:.3} {far_by:.3}");
    }
}

/// Each text is nearest to its own near one among those of all.
#[test]
fn texts_find_their_like_among_others() {
    for [text, near, _] in LABELLED {
        let nearest =
            LABELLED.iter().max_by(|a, b| cosine(text, a[1]).total_cmp(&cosine(text, b[1]))).unwrap();
        assert_eq!(nearest[1], *near, "{text}");
    }
}

#[test]
fn forms_that_mean_the_same_are_the_same() {
    for (a, b) in
        [("Hello  World", "hello, world!"), ("ＡＢＣ　１", "abc 1"), ("ΟΔΟΣ", "οδος"), ("STRASSE", "straße")]
    {
        assert_eq!(vector(a), vector(b), "{a}");
    }
    for (a, b) in [("dog bites man", "man bites dog"), ("!!!", "???"), ("a 😀", "a 😡"), (" ", "\n\n")] {
        assert_ne!(vector(a), vector(b), "{a:?}");
    }
}

#[test]
fn there_is_no_vector_of_nothing_or_of_any_length() {
    let embed = |text, dimensions| Model::Hash1.embed(text, dimensions).map(|vector| vector.len());
    assert_eq!(embed("", None), Err(EmbedError::Empty));
    for wrong in [0, 7, 4_097, u32::MAX] {
        assert_eq!(embed("a", Some(wrong)), Err(EmbedError::Dimensions { least: 8, most: 4_096 }));
    }
    assert_eq!((embed("a", None), embed("a", Some(8)), embed("a", Some(4_096))), (Ok(384), Ok(8), Ok(4_096)));
    assert_eq!((Model::named("weir-hash-1"), Model::named("weir-hash-2")), (Some(Model::Hash1), None));
}

#[test]
fn long_texts_are_taken_whole() {
    let words: Vec<_> = (0..20_000).map(|n| format!("word{}", n % 7_000)).collect();
    let (whole, head) = (words.join(" "), words[..2_000].join(" "));
    let end = format!("{whole} zebra");
    assert_ne!(vector(&whole), vector(&end));
    assert!(cosine(&whole, &head) > 0.5);
    for odd in ["x".repeat(1 << 20), "e\u{301}\u{300}".repeat(1 << 18), "\u{fdfa}".repeat(1 << 16)] {
        assert_eq!(vector(&odd).len(), 384);
    }
}

/// The model's name promises these. Who changes them makes another model.
#[test]
fn vectors_are_what_they_ever_were() {
    for (text, eight, fingerprint) in GOLDEN {
        let short = Model::Hash1.embed(text, Some(8)).unwrap();
        assert_eq!(short.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), eight, "{text}: {short:?}");
        let bytes = vector(text).into_iter().flat_map(f32::to_le_bytes);
        let sum = bytes
            .fold(0xcbf2_9ce4_8422_2325, |sum: u64, b| (sum ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(sum, *fingerprint, "{text}: {sum:#x}");
    }
}

/// A text, its vector of eight as bits, and FNV-1a of the bytes of its vector of 384.
const GOLDEN: &[(&str, [u32; 8], u64)] = &[
    (
        "hello world",
        [
            0xbea1_e89b,
            0x3e21_e89b,
            0xbe21_e89b,
            0xbf21_e89b,
            0xbea1_e89b,
            0xbef2_dce9,
            0x3e21_e89b,
            0xbea1_e89b,
        ],
        0x6f6a_0632_03e2_2c4f,
    ),
    (
        "Ein Fluß im Frühling",
        [0xbda9_3446, 0xbea9_3446, 0x3e94_0dbe, 0x3f1e_a102, 0xbefd_ce6a, 0x3e7d_ce6a, 0xbea9_3446, 0],
        0x097d_f131_b6bf_9a70,
    ),
    (
        "東京の天気",
        [0x3e5a_514a, 0x3f08_72ce, 0x3f3f_0721, 0, 0, 0, 0xbdda_514a, 0xbea3_bcf7],
        0x4de5_59ea_3c50_1315,
    ),
    (
        "!",
        [0xbef1_5bef, 0x3e71_5bef, 0xbef1_5bef, 0xbe71_5bef, 0xbef1_5bef, 0, 0, 0x3ef1_5bef],
        0x5638_377a_1730_a335,
    ),
];

proptest! {
    #[test]
    fn any_text_has_one_vector_of_length_one(text in ".{1,200}", dimensions in 8..4_097_u32) {
        let vector = Model::Hash1.embed(&text, Some(dimensions)).unwrap();
        prop_assert_eq!(vector.len(), dimensions as usize);
        let length: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        prop_assert!((length - 1.0).abs() < 1e-5, "{}", length);
        prop_assert_eq!(vector, Model::Hash1.embed(&text, Some(dimensions)).unwrap());
    }
}
