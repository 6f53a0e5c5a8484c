//! The tables that generated clients are drawn from. The weights are rough; with them, a filter on a code, a tag or a
//! time zone selects about the same share as among real clients.

/// A city and its IANA time zone.
#[derive(Debug)]
pub(super) struct City {
    pub(super) name: &'static str,
    pub(super) timezone: &'static str,
    /// The population in units of ten thousand.
    pub(super) weight: u64,
}

const fn city(name: &'static str, timezone: &'static str, weight: u64) -> City {
    City { name, timezone, weight }
}

/// The reserved numbers per share of an operator code; a code has ten million.
pub(super) const NUMBERS_PER_SHARE: u64 = 100_000;

/// Operator codes as assigned to the mobile networks, with the shares of each code.
pub(super) const OPERATOR_CODES: &[(&[u16], u64)] = &[
    // MTS
    (&[910, 911, 912, 913, 914, 915, 916, 917, 918, 919], 30),
    (&[980, 981, 982, 983, 984, 985, 986, 987, 988, 989], 18),
    // MegaFon
    (&[920, 921, 922, 923, 924, 925, 926, 927, 928, 929], 26),
    (&[930, 931, 932, 933, 934, 936, 937, 938, 939], 12),
    // Beeline
    (&[903, 905, 906, 909], 34),
    (&[960, 961, 962, 963, 964, 965, 966, 967, 968], 17),
    // T2
    (&[900, 901, 902, 904, 908, 950, 951, 952, 953], 20),
    (&[977, 991, 992, 994], 8),
    // Yota and the virtual operators
    (&[995, 996, 999], 10),
    (&[958], 4),
];

/// The tags, with their percentages.
pub(super) const TAGS: &[(&str, u64)] = &[("vip", 5), ("regular", 70), ("new", 25)];

/// First names, their Latin spelling for the e-mail address, and their weights.
pub(super) const NAMES: &[(&str, &str, u64)] = &[
    ("Александр", "aleksandr", 9),
    ("Алексей", "aleksey", 7),
    ("Андрей", "andrey", 6),
    ("Артём", "artyom", 5),
    ("Владимир", "vladimir", 5),
    ("Даниил", "daniil", 3),
    ("Дмитрий", "dmitry", 8),
    ("Евгений", "evgeny", 5),
    ("Иван", "ivan", 6),
    ("Игорь", "igor", 4),
    ("Кирилл", "kirill", 4),
    ("Константин", "konstantin", 3),
    ("Максим", "maksim", 6),
    ("Михаил", "mikhail", 6),
    ("Никита", "nikita", 4),
    ("Николай", "nikolay", 5),
    ("Олег", "oleg", 3),
    ("Павел", "pavel", 4),
    ("Роман", "roman", 4),
    ("Сергей", "sergey", 8),
    ("Тимур", "timur", 2),
    ("Руслан", "ruslan", 2),
    ("Юрий", "yury", 3),
    ("Алина", "alina", 3),
    ("Анастасия", "anastasia", 7),
    ("Анна", "anna", 8),
    ("Валентина", "valentina", 3),
    ("Виктория", "viktoria", 4),
    ("Галина", "galina", 3),
    ("Дарья", "darya", 5),
    ("Екатерина", "ekaterina", 7),
    ("Елена", "elena", 8),
    ("Ирина", "irina", 6),
    ("Ксения", "ksenia", 4),
    ("Любовь", "lyubov", 3),
    ("Мария", "maria", 7),
    ("Марина", "marina", 4),
    ("Надежда", "nadezhda", 3),
    ("Наталья", "natalya", 6),
    ("Ольга", "olga", 7),
    ("Полина", "polina", 4),
    ("Светлана", "svetlana", 5),
    ("София", "sofia", 4),
    ("Татьяна", "tatyana", 6),
    ("Юлия", "yulia", 5),
];

/// Cities in every time zone of the country.
pub(super) const CITIES: &[City] = &[
    city("Калининград", "Europe/Kaliningrad", 49),
    city("Москва", "Europe/Moscow", 1310),
    city("Санкт-Петербург", "Europe/Moscow", 560),
    city("Нижний Новгород", "Europe/Moscow", 122),
    city("Казань", "Europe/Moscow", 131),
    city("Ростов-на-Дону", "Europe/Moscow", 114),
    city("Краснодар", "Europe/Moscow", 110),
    city("Воронеж", "Europe/Moscow", 105),
    city("Ярославль", "Europe/Moscow", 57),
    city("Мурманск", "Europe/Moscow", 27),
    city("Киров", "Europe/Kirov", 47),
    city("Волгоград", "Europe/Volgograd", 102),
    city("Астрахань", "Europe/Astrakhan", 47),
    city("Саратов", "Europe/Saratov", 89),
    city("Ульяновск", "Europe/Ulyanovsk", 61),
    city("Самара", "Europe/Samara", 116),
    city("Ижевск", "Europe/Samara", 62),
    city("Екатеринбург", "Asia/Yekaterinburg", 154),
    city("Челябинск", "Asia/Yekaterinburg", 118),
    city("Уфа", "Asia/Yekaterinburg", 115),
    city("Пермь", "Asia/Yekaterinburg", 103),
    city("Тюмень", "Asia/Yekaterinburg", 86),
    city("Омск", "Asia/Omsk", 110),
    city("Новосибирск", "Asia/Novosibirsk", 163),
    city("Барнаул", "Asia/Barnaul", 62),
    city("Томск", "Asia/Tomsk", 55),
    city("Новокузнецк", "Asia/Novokuznetsk", 53),
    city("Красноярск", "Asia/Krasnoyarsk", 120),
    city("Иркутск", "Asia/Irkutsk", 61),
    city("Улан-Удэ", "Asia/Irkutsk", 43),
    city("Чита", "Asia/Chita", 33),
    city("Якутск", "Asia/Yakutsk", 36),
    city("Благовещенск", "Asia/Yakutsk", 24),
    city("Хабаровск", "Asia/Vladivostok", 61),
    city("Владивосток", "Asia/Vladivostok", 60),
    city("Магадан", "Asia/Magadan", 9),
    city("Южно-Сахалинск", "Asia/Sakhalin", 18),
    city("Петропавловск-Камчатский", "Asia/Kamchatka", 16),
    city("Анадырь", "Asia/Anadyr", 1),
];
